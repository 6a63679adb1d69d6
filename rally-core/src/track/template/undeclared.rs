//! The variables that a template reads and does not set itself, as Jinja2 counts them.
//!
//! Rally takes these names for the parameters of a track. The rules are those of Jinja2's compiler: names are resolved
//! once per scope, and a name that only some branches of an `if` set counts as read from outside.

use std::collections::{BTreeSet, HashMap, HashSet};

use minijinja::machinery::ast::{CallArg, Expr, Macro, Stmt};

/// Names that are always defined, and thus nobody's parameters.
const GLOBALS: [&str; 10] =
    ["range", "dict", "lipsum", "cycler", "joiner", "namespace", "build_flavor", "serverless_operator", "now", "glob"];

/// The undeclared variables of a template.
pub(crate) fn undeclared(template: &Stmt<'_>) -> BTreeSet<String> {
    let mut found = Found::default();
    if let Stmt::Template(template) = template {
        let mut scope = Scope::default();
        scope.declare("self");
        found.scope(scope, &template.children, &[]);
    }
    found.names.into_iter().filter(|name| !GLOBALS.contains(&name.as_str())).collect()
}

/// How a scope gets at a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Load {
    /// Read from outside of the template.
    Outside,
    /// Set here, read from an enclosing scope, or a parameter.
    Inside,
}

/// The names of one scope.
#[derive(Clone, Debug, Default)]
struct Scope<'s, 'a> {
    loads: HashMap<&'a str, Load>,
    stores: HashSet<&'a str>,
    /// The scope around this one, whose names are known here.
    outer: Option<&'s Self>,
}

impl<'s, 'a> Scope<'s, 'a> {
    fn inner(&'s self) -> Self {
        Self { outer: Some(self), ..Self::default() }
    }

    /// Whether a scope around this one knows the name.
    fn is_outer(&self, name: &str) -> bool {
        self.outer.is_some_and(|outer| outer.loads.contains_key(name) || outer.is_outer(name))
    }

    fn declare(&mut self, name: &'a str) {
        self.stores.insert(name);
        self.loads.insert(name, Load::Inside);
    }

    fn store(&mut self, name: &'a str) {
        self.stores.insert(name);
        self.loads.entry(name).or_insert(Load::Inside);
    }

    fn load(&mut self, name: &'a str) {
        if !self.is_outer(name) {
            self.loads.entry(name).or_insert(Load::Outside);
        }
    }

    /// Joins the branches of an `if`: what only they set may also come from outside.
    fn join(&mut self, branches: [Self; 2]) {
        let known = self.stores.clone();
        for branch in branches {
            self.loads.extend(branch.loads);
            self.stores.extend(branch.stores);
        }
        for name in self.stores.difference(&known) {
            let load = if self.is_outer(name) { Load::Inside } else { Load::Outside };
            self.loads.insert(name, load);
        }
    }
}

#[derive(Debug, Default)]
struct Found {
    names: HashSet<String>,
}

impl Found {
    /// Works through a scope: its names first, then the scopes within it, which see all of those names.
    fn scope<'a>(&mut self, mut scope: Scope<'_, 'a>, body: &'a [Stmt<'a>], before: &[&'a Expr<'a>]) {
        for expr in before {
            read(&mut scope, expr);
        }
        for stmt in body {
            names(&mut scope, stmt);
        }
        let outside = scope.loads.iter().filter(|(_, load)| **load == Load::Outside);
        self.names.extend(outside.map(|(name, _)| (*name).to_owned()));
        for stmt in body {
            self.nested(&scope, stmt);
        }
    }

    /// Finds the scopes that a statement opens.
    fn nested<'a>(&mut self, scope: &Scope<'_, 'a>, stmt: &'a Stmt<'a>) {
        match stmt {
            Stmt::IfCond(branch) => {
                branch.true_body.iter().chain(&branch.false_body).for_each(|stmt| self.nested(scope, stmt));
            }
            Stmt::ForLoop(for_loop) => {
                let mut body = scope.inner();
                body.declare("loop");
                assign(&mut body, &for_loop.target, true);
                self.scope(body, &for_loop.body, &[]);
                if let Some(filter) = &for_loop.filter_expr {
                    let mut test = scope.inner();
                    assign(&mut test, &for_loop.target, true);
                    self.scope(test, &[], &[filter]);
                }
                self.scope(scope.inner(), &for_loop.else_body, &[]);
            }
            Stmt::WithBlock(with) => {
                let mut body = scope.inner();
                for (target, _) in &with.assignments {
                    assign(&mut body, target, true);
                }
                self.scope(body, &with.body, &[]);
            }
            Stmt::SetBlock(set) => {
                self.scope(scope.inner(), &set.body, &set.filter.iter().collect::<Vec<_>>());
            }
            Stmt::AutoEscape(block) => self.scope(scope.inner(), &block.body, &[]),
            Stmt::FilterBlock(block) => self.scope(scope.inner(), &block.body, &[&block.filter]),
            Stmt::Block(block) => self.scope(Scope::default(), &block.body, &[]),
            Stmt::Macro(declared) => self.macro_scope(scope, declared),
            Stmt::CallBlock(block) => self.macro_scope(scope, &block.macro_decl),
            Stmt::Template(_)
            | Stmt::EmitExpr(_)
            | Stmt::EmitRaw(_)
            | Stmt::Set(_)
            | Stmt::Import(_)
            | Stmt::FromImport(_)
            | Stmt::Extends(_)
            | Stmt::Include(_)
            | Stmt::Do(_) => {}
        }
    }

    fn macro_scope<'a>(&mut self, scope: &Scope<'_, 'a>, declared: &'a Macro<'a>) {
        let mut body = scope.inner();
        for name in ["caller", "kwargs", "varargs"] {
            body.declare(name);
        }
        for argument in &declared.args {
            assign(&mut body, argument, true);
        }
        self.scope(body, &declared.body, &declared.defaults.iter().collect::<Vec<_>>());
    }
}

/// Records what a statement reads and sets in its own scope, but not in the scopes that it opens.
fn names<'a>(scope: &mut Scope<'_, 'a>, stmt: &'a Stmt<'a>) {
    match stmt {
        Stmt::Template(_) | Stmt::EmitRaw(_) | Stmt::Block(_) | Stmt::AutoEscape(_) => {}
        Stmt::EmitExpr(emit) => read(scope, &emit.expr),
        Stmt::ForLoop(for_loop) => read(scope, &for_loop.iter),
        Stmt::IfCond(branch) => {
            read(scope, &branch.expr);
            let branches = [&branch.true_body, &branch.false_body].map(|body| {
                let mut inner = scope.clone();
                body.iter().for_each(|stmt| names(&mut inner, stmt));
                inner
            });
            scope.join(branches);
        }
        Stmt::WithBlock(with) => with.assignments.iter().for_each(|(_, value)| read(scope, value)),
        Stmt::Set(set) => {
            read(scope, &set.expr);
            assign(scope, &set.target, false);
        }
        Stmt::SetBlock(set) => assign(scope, &set.target, false),
        Stmt::FilterBlock(block) => read(scope, &block.filter),
        Stmt::Import(import) => {
            read(scope, &import.expr);
            assign(scope, &import.name, false);
        }
        Stmt::FromImport(import) => {
            read(scope, &import.expr);
            for (name, alias) in &import.names {
                assign(scope, alias.as_ref().unwrap_or(name), false);
            }
        }
        Stmt::Extends(extends) => read(scope, &extends.name),
        Stmt::Include(include) => read(scope, &include.name),
        Stmt::Macro(declared) => scope.store(declared.name),
        Stmt::CallBlock(block) => {
            read(scope, &block.call.expr);
            block.call.args.iter().for_each(|argument| read_argument(scope, argument));
        }
        Stmt::Do(call) => {
            read(scope, &call.call.expr);
            call.call.args.iter().for_each(|argument| read_argument(scope, argument));
        }
    }
}

/// Records a target of an assignment, of a loop (`as_parameter`) or an argument.
fn assign<'a>(scope: &mut Scope<'_, 'a>, target: &'a Expr<'a>, as_parameter: bool) {
    match target {
        Expr::Var(var) if as_parameter => scope.declare(var.id),
        Expr::Var(var) => scope.store(var.id),
        Expr::List(list) => list.items.iter().for_each(|item| assign(scope, item, as_parameter)),
        Expr::Tuple(tuple) => tuple.items.iter().for_each(|item| assign(scope, item, as_parameter)),
        other => read(scope, other),
    }
}

fn read_argument<'a>(scope: &mut Scope<'_, 'a>, argument: &'a CallArg<'a>) {
    match argument {
        CallArg::Pos(expr) | CallArg::Kwarg(_, expr) | CallArg::PosSplat(expr) | CallArg::KwargSplat(expr) => {
            read(scope, expr);
        }
    }
}

fn read<'a>(scope: &mut Scope<'_, 'a>, expr: &'a Expr<'a>) {
    match expr {
        Expr::Var(var) => scope.load(var.id),
        Expr::Const(_) => {}
        Expr::Slice(slice) => {
            read(scope, &slice.expr);
            [&slice.start, &slice.stop, &slice.step].into_iter().flatten().for_each(|part| read(scope, part));
        }
        Expr::UnaryOp(op) => read(scope, &op.expr),
        Expr::BinOp(op) => {
            read(scope, &op.left);
            read(scope, &op.right);
        }
        Expr::Compare(compare) => {
            read(scope, &compare.expr);
            compare.ops.iter().for_each(|op| read(scope, &op.expr));
        }
        Expr::IfExpr(branch) => {
            read(scope, &branch.test_expr);
            read(scope, &branch.true_expr);
            branch.false_expr.iter().for_each(|expr| read(scope, expr));
        }
        Expr::Filter(filter) => {
            filter.expr.iter().for_each(|expr| read(scope, expr));
            filter.args.iter().for_each(|argument| read_argument(scope, argument));
        }
        Expr::Test(test) => {
            read(scope, &test.expr);
            test.args.iter().for_each(|argument| read_argument(scope, argument));
        }
        Expr::GetAttr(attribute) => read(scope, &attribute.expr),
        Expr::GetItem(item) => {
            read(scope, &item.expr);
            read(scope, &item.subscript_expr);
        }
        Expr::Call(call) => {
            read(scope, &call.expr);
            call.args.iter().for_each(|argument| read_argument(scope, argument));
        }
        Expr::List(list) => list.items.iter().for_each(|item| read(scope, item)),
        Expr::Tuple(tuple) => tuple.items.iter().for_each(|item| read(scope, item)),
        Expr::Map(map) => map.keys.iter().chain(&map.values).for_each(|item| read(scope, item)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use minijinja::machinery::parse;

    /// Each expectation was checked against `jinja2.meta.find_undeclared_variables` of Jinja2 3.1.6.
    #[test]
    fn names_are_counted_as_jinja2_counts_them() {
        for (template, expected) in [
            ("{{ a }}{% set b = 1 %}{{ b }}", "a"),
            ("{% set x = x | default(1) %}{{ x }}", "x"),
            ("{{ x }}{% set x = 1 %}", "x"),
            ("{% if a %}{% set b = 1 %}{% endif %}{{ b }}", "a b"),
            ("{% if a %}{% set b = 1 %}{% else %}{% set b = 2 %}{% endif %}{{ b }}", "a b"),
            ("{% set b = 0 %}{% if a %}{% set b = 1 %}{% endif %}{{ b }}", "a"),
            ("{% for i in items %}{% set y = i %}{{ y }}{{ loop.index }}{% endfor %}{{ y }}", "items y"),
            ("{% for i in range(3) if i > limit %}{{ i }}{% else %}{{ i }}{% endfor %}", "i limit"),
            ("{% for k, v in d.items() %}{{ k }}{{ v }}{{ w }}{% endfor %}", "d w"),
            ("{% macro m(a, b=c) %}{{ a }}{{ d }}{{ caller() }}{{ varargs }}{% endmacro %}{{ m(1) }}", "c d"),
            ("{% set ns = namespace(x=1) %}{% set ns.x = q %}", "q"),
            ("{% set other.x = 1 %}", "other"),
            ("{% import 'rally.helpers' as rally with context %}{{ rally.collect(parts=p) }}", "p"),
            ("{% from f import a, b as c %}{{ a }}{{ b }}{{ c }}", "b f"),
            ("{% include 'x' %}{% include name %}", "name"),
            ("{% set x %}{{ y }}{% endset %}{{ x }}", "y"),
            ("{% with a = b %}{{ a }}{{ c }}{% endwith %}{{ a }}", "a b c"),
            ("{% filter upper %}{{ a }}{% endfilter %}", "a"),
            ("{{ null }}{{ none }}{{ true }}{{ None }}", "null"),
            ("{{ now }}{{ build_flavor }}{{ joiner() }}{{ glob('x') }}{{ serverless_operator }}{{ lipsum() }}", ""),
            (
                "{% if x is defined and x.y[z] == 'a' ~ b %}{% elif c in [d, (e,), {'f': f, g: 1}] %}{% endif %}",
                "b c d e f g x z",
            ),
            ("{% if a %}{% set v = 1 %}{% elif v %}{% endif %}", "a v"),
            ("{% for i in [1] %}{% if i %}{% set t = 1 %}{% endif %}{{ t }}{% endfor %}", "t"),
            ("{% set t = 0 %}{% for i in [1] %}{% if i %}{% set t = 1 %}{% endif %}{{ t }}{% endfor %}", ""),
            ("{% raw %}{{ a }}{% endraw %}{# {{ b }} #}", ""),
            ("{{ a if b else c }}{{ d | default(e, true) }}{{ f[g:h] }}{{ -i }}{{ not j }}", "a b c d e f g h i j"),
            ("{% block b %}{{ x }}{% endblock %}{% set x = 1 %}", "x"),
        ] {
            let parsed = parse(template, "test", Default::default()).unwrap();
            let found: Vec<String> = undeclared(&parsed).into_iter().collect();
            assert_eq!(found.join(" "), expected, "{template}");
        }
    }
}
