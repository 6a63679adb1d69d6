//! Where Python's operators differ from those of the engine, the syntax tree is changed before it is compiled.
//!
//! * `<`, `<=`, `>` and `>=` refuse what has no order in Python, such as a text and a number, or an undefined value; so do
//!   `in` with what contains nothing, and slices of what is undefined.
//! * `==`, `!=` and whatever else looks through lists and dicts take fuel by the size of these; so do `set` and lists and
//!   dicts that are written down, so that none becomes larger than the fuel allows by containing another several times.
//! * `~` prints numbers and containers as Python does; `+` and `*` of lists give lists.
//! * `%` with a literal text on the left formats it.
//! * A loop over `none` is an error.
//! * What is set within `{% set x %}`, `{% filter %}`, `{% autoescape %}` or an included file stays in there.
//! * Lists and dicts that are written down can be changed, in templates that call methods which change them.
//!
//! The tree refers to functions by names such as `<`, which no template can use itself. Tests of these names follow the same
//! rules.

use std::cmp::Ordering;

use minijinja::machinery::Span;
use minijinja::machinery::ast::{
    AutoEscape, BinOp, BinOpKind, Block, Call, CallArg, CallBlock, Compare, CompareOpKind, Const, Do, EmitExpr,
    EmitRaw, Expr, Extends, Filter, FilterBlock, ForLoop, FromImport, GetAttr, GetItem, IfCond, IfExpr, Import,
    Include, List as ListLiteral, Macro, Map, Set, SetBlock, Slice, Spanned, Stmt, Template, Test, Tuple, UnaryOp,
    UnaryOpKind, Var, WithBlock,
};
use minijinja::value::ValueKind;
use minijinja::{Environment, Error, ErrorKind, State, Value};

use super::python::{Dict, List, charge_size, charge_text, text_of};

/// Methods that change a list or a dict.
const MUTATORS: [&str; 11] =
    ["append", "clear", "extend", "insert", "pop", "popitem", "remove", "reverse", "setdefault", "sort", "update"];

/// Functions of the changed tree.
const FORMAT: &str = "%";
const CONCATENATE: &str = "~";
const CONTAINS: &str = "in";
const ITERATE: &str = "for";
const SETTLE: &str = "+";
const SIZE: &str = "[[]]";
const SLICE: &str = "[:]";
const LIST: &str = "[]";
const DICT: &str = "{}";

/// An operator that orders, with the tests of the same meaning, and what it accepts.
type Order = (&'static [&'static str], fn(Ordering) -> bool);

const ORDERS: [Order; 4] = [
    (&["<", "lt", "lessthan"], Ordering::is_lt),
    (&["<=", "le"], Ordering::is_le),
    (&[">", "gt", "greaterthan"], Ordering::is_gt),
    (&[">=", "ge"], Ordering::is_ge),
];

/// Tests and functions of (in)equality, and which result of a comparison they are about.
const EQUALITIES: [(&[&str], bool); 2] = [(&["==", "eq", "equalto"], true), (&["!=", "ne"], false)];

/// Adds the functions that changed trees refer to, and tests with Python's rules.
///
/// No text that `~` makes takes more than `longest` bytes.
pub(crate) fn add_functions(env: &mut Environment<'_>, longest: usize) {
    for (names, accepts) in ORDERS {
        let order = move |state: &State<'_, '_>, a: Value, b: Value| {
            charge_size(state, &a)?;
            compare(names[0], a, b).map(accepts)
        };
        env.add_function(names[0], order);
        names.iter().for_each(|name| env.add_test(*name, order));
    }
    for (names, expected) in EQUALITIES {
        let equality = move |state: &State<'_, '_>, a: Value, b: Value| {
            // Nothing is looked through unless both are containers.
            if b.as_object().is_some() {
                charge_size(state, &a)?;
            }
            Ok::<_, Error>((a == b) == expected)
        };
        env.add_function(names[0], equality);
        names.iter().for_each(|name| env.add_test(*name, equality));
    }
    env.add_function(CONTAINS, contains);
    env.add_test(CONTAINS, contains);
    env.add_function(CONCATENATE, move |state: &State<'_, '_>, a: Value, b: Value| {
        let (a, b) = (text_of(&a)?, text_of(&b)?);
        charge_text(state, a.len() + b.len(), longest)?;
        Ok::<_, Error>(a + &b)
    });
    env.add_function(SETTLE, settle);
    env.add_function(SIZE, |state: &State<'_, '_>, value: Value| charge_size(state, &value).map(|()| value));
    env.add_function(SLICE, |value: Value| {
        let refused = value.is_undefined() || value.is_none();
        if refused { Err(invalid(format!("{} has no slices", value.kind()))) } else { Ok(value) }
    });
    env.add_function(FORMAT, format);
    env.add_function(ITERATE, iterate);
    env.add_function(LIST, |value: Value| Ok::<_, Error>(Value::from(List::from_items(value.try_iter()?))));
    env.add_function(DICT, |value: Value| {
        let entries = value.try_iter()?.map(|key| Ok((key.clone(), value.get_item(&key)?)));
        Ok::<_, Error>(Value::from(Dict::from_entries(entries.collect::<Result<Vec<_>, Error>>()?)))
    });
}

/// Adds tests that the engine lacks or takes lightly, and removes those that are not Jinja2's.
pub(crate) fn add_tests(env: &mut Environment<'_>) {
    env.add_test("odd", |value: Value| remainder(&value, 2.0).map(|rest| rest == 1.0));
    env.add_test("even", |value: Value| remainder(&value, 2.0).map(|rest| rest == 0.0));
    env.add_test("divisibleby", |value: Value, divisor: f64| remainder(&value, divisor).map(|rest| rest == 0.0));
    env.add_test("sequence", |value: Value| {
        matches!(value.kind(), ValueKind::Undefined | ValueKind::String | ValueKind::Seq | ValueKind::Map)
    });
    env.add_test("iterable", |value: Value| {
        use ValueKind::{Iterable, Map, Seq, String, Undefined};
        matches!(value.kind(), Undefined | String | Seq | Map | Iterable)
    });
    env.add_test("callable", |value: Value| matches!(value.kind(), ValueKind::Undefined | ValueKind::Plain));
    ["endingwith", "int", "safe", "startingwith"].iter().for_each(|name| env.remove_test(name));
}

fn invalid(detail: String) -> Error {
    Error::new(ErrorKind::InvalidOperation, detail)
}

/// What is left of a division, with the sign of the divisor.
fn remainder(value: &Value, divisor: f64) -> Result<f64, Error> {
    if !matches!(value.kind(), ValueKind::Number | ValueKind::Bool) {
        return Err(invalid(format!("{} is not a number", value.kind())));
    }
    if divisor == 0.0 {
        return Err(invalid("division by zero".to_owned()));
    }
    let value = f64::try_from(without_bool(value.clone()))?;
    Ok(value - divisor * (value / divisor).floor())
}

/// The engine joins lists without making a new one, and what it gives is no list any more.
fn settle(state: &State<'_, '_>, value: Value) -> Result<Value, Error> {
    if value.kind() != ValueKind::Iterable {
        return Ok(value);
    }
    let items = value.try_iter()?.map(|item| {
        state.consume_fuel(4)?;
        charge_size(state, &item).map(|()| item)
    });
    Ok(List::from_items(items.collect::<Result<Vec<_>, Error>>()?).into())
}

fn contains(state: &State<'_, '_>, item: Value, container: Value) -> Result<bool, Error> {
    let refused = match container.kind() {
        ValueKind::Undefined | ValueKind::Seq | ValueKind::Map | ValueKind::Iterable => false,
        ValueKind::String => item.kind() != ValueKind::String,
        _ => true,
    };
    if refused {
        return Err(invalid(format!("`in` does not work between {} and {}", item.kind(), container.kind())));
    }
    if item.as_object().is_some() {
        charge_size(state, &container)?;
    }
    minijinja::tests::is_in(state, &item, &container)
}

fn compare(operator: &str, a: Value, b: Value) -> Result<Ordering, Error> {
    let number = |value: &Value| matches!(value.kind(), ValueKind::Number | ValueKind::Bool);
    match (a.kind(), b.kind()) {
        (ValueKind::Undefined, _) | (_, ValueKind::Undefined) => Err(ErrorKind::UndefinedError.into()),
        (ValueKind::String, ValueKind::String) => Ok(a.cmp(&b)),
        (ValueKind::Seq, ValueKind::Seq) if a.is_tuple() == b.is_tuple() => Ok(a.cmp(&b)),
        _ if number(&a) && number(&b) => Ok(without_bool(a).cmp(&without_bool(b))),
        (one, other) => Err(invalid(format!("`{operator}` does not work between {one} and {other}"))),
    }
}

fn without_bool(value: Value) -> Value {
    if value.kind() == ValueKind::Bool { Value::from(i64::from(value.is_true())) } else { value }
}

fn format(state: &mut State<'_, '_>, text: Value, arguments: Value) -> Result<Value, Error> {
    let mut all = vec![text];
    if arguments.is_tuple() {
        all.extend(arguments.try_iter()?);
    } else {
        all.push(arguments);
    }
    state.apply_filter("format", &all)
}

fn iterate(value: Value) -> Result<Value, Error> {
    if value.is_none() {
        return Err(invalid("none is not iterable".to_owned()));
    }
    Ok(value)
}

/// Refuses what the engine parses and cannot compile, `{% import "file" as 1 %}`, and what is not part of Jinja2, `do`.
pub(crate) fn check_statements(stmt: &Stmt<'_>) -> Result<(), Error> {
    let empty: &[Stmt<'_>] = &[];
    let refuse = |span: Span, problem: &str| {
        Err(Error::new(ErrorKind::SyntaxError, format!("line {}: {problem}", span.start_line)))
    };
    let (body, rest) = match stmt {
        Stmt::Do(node) => return refuse(node.span(), "Rally knows no `do`: write `{% set _ = ... %}`"),
        Stmt::Import(import) if !matches!(import.name, Expr::Var(_)) => {
            return refuse(import.span(), "expected a name after `as`");
        }
        Stmt::Template(node) => (node.children.as_slice(), empty),
        Stmt::ForLoop(node) => (node.body.as_slice(), node.else_body.as_slice()),
        Stmt::IfCond(node) => (node.true_body.as_slice(), node.false_body.as_slice()),
        Stmt::WithBlock(node) => (node.body.as_slice(), empty),
        Stmt::SetBlock(node) => (node.body.as_slice(), empty),
        Stmt::AutoEscape(node) => (node.body.as_slice(), empty),
        Stmt::FilterBlock(node) => (node.body.as_slice(), empty),
        Stmt::Block(node) => (node.body.as_slice(), empty),
        Stmt::Macro(node) => (node.body.as_slice(), empty),
        Stmt::CallBlock(node) => (node.macro_decl.body.as_slice(), empty),
        Stmt::Import(_)
        | Stmt::FromImport(_)
        | Stmt::EmitExpr(_)
        | Stmt::EmitRaw(_)
        | Stmt::Set(_)
        | Stmt::Extends(_)
        | Stmt::Include(_) => (empty, empty),
    };
    body.iter().chain(rest).try_for_each(check_statements)
}

/// Makes a tree with Python's operators. `source` is the text of the template.
pub(crate) fn with_python_operators<'a>(template: &Stmt<'a>, source: &str) -> Stmt<'a> {
    let mutable_literals = source.match_indices('(').any(|(end, _)| {
        let called = |name: &&str| source[..end].strip_suffix(name).is_some_and(|before| before.ends_with('.'));
        MUTATORS.iter().any(called)
    });
    Rewrite { mutable_literals }.statement(template)
}

/// Copies a tree with changes. The nodes of the engine cannot be changed in place.
struct Rewrite {
    /// Whether lists and dicts that are written down have to be ours.
    mutable_literals: bool,
}

impl Rewrite {
    fn body<'a>(&self, body: &[Stmt<'a>]) -> Vec<Stmt<'a>> {
        body.iter().map(|stmt| self.statement(stmt)).collect()
    }

    /// A body whose variables end with it.
    fn scope<'a>(&self, body: &[Stmt<'a>], span: Span) -> Vec<Stmt<'a>> {
        vec![scoped(self.body(body), span)]
    }

    fn expressions<'a>(&self, exprs: &[Expr<'a>]) -> Vec<Expr<'a>> {
        exprs.iter().map(|expr| self.expression(expr)).collect()
    }

    fn optional<'a>(&self, expr: Option<&Expr<'a>>) -> Option<Expr<'a>> {
        expr.map(|expr| self.expression(expr))
    }

    fn statement<'a>(&self, stmt: &Stmt<'a>) -> Stmt<'a> {
        match stmt {
            Stmt::Template(node) => {
                Stmt::Template(Spanned::new(Template { children: self.body(&node.children) }, node.span()))
            }
            Stmt::EmitExpr(node) => {
                Stmt::EmitExpr(Spanned::new(EmitExpr { expr: self.expression(&node.expr) }, node.span()))
            }
            Stmt::EmitRaw(node) => Stmt::EmitRaw(Spanned::new(EmitRaw { raw: node.raw }, node.span())),
            Stmt::ForLoop(node) => {
                let iter = self.expression(&node.iter);
                let for_loop = ForLoop {
                    target: copy(&node.target),
                    iter: call(ITERATE, vec![iter], node.iter.span()),
                    filter_expr: self.optional(node.filter_expr.as_ref()),
                    recursive: node.recursive,
                    body: self.body(&node.body),
                    else_body: self.body(&node.else_body),
                };
                Stmt::ForLoop(Spanned::new(for_loop, node.span()))
            }
            Stmt::IfCond(node) => {
                let condition = IfCond {
                    expr: self.expression(&node.expr),
                    true_body: self.body(&node.true_body),
                    false_body: self.body(&node.false_body),
                };
                Stmt::IfCond(Spanned::new(condition, node.span()))
            }
            Stmt::WithBlock(node) => {
                let assignments =
                    node.assignments.iter().map(|(target, value)| (copy(target), self.expression(value))).collect();
                Stmt::WithBlock(Spanned::new(WithBlock { assignments, body: self.body(&node.body) }, node.span()))
            }
            Stmt::Set(node) => {
                let set = Set { target: copy(&node.target), expr: charged(self.expression(&node.expr), node.span()) };
                Stmt::Set(Spanned::new(set, node.span()))
            }
            Stmt::SetBlock(node) => {
                let set = SetBlock {
                    target: copy(&node.target),
                    filter: self.optional(node.filter.as_ref()),
                    body: self.scope(&node.body, node.span()),
                };
                Stmt::SetBlock(Spanned::new(set, node.span()))
            }
            Stmt::AutoEscape(node) => {
                let block =
                    AutoEscape { enabled: self.expression(&node.enabled), body: self.scope(&node.body, node.span()) };
                Stmt::AutoEscape(Spanned::new(block, node.span()))
            }
            Stmt::FilterBlock(node) => {
                let block = FilterBlock {
                    filter: self.expression(&node.filter),
                    filter_span: node.filter_span,
                    body: self.scope(&node.body, node.span()),
                };
                Stmt::FilterBlock(Spanned::new(block, node.span()))
            }
            Stmt::Block(node) => {
                let block = Block { name: node.name, required: node.required, body: self.body(&node.body) };
                Stmt::Block(Spanned::new(block, node.span()))
            }
            Stmt::Import(node) => {
                let import = Import { expr: self.expression(&node.expr), name: copy(&node.name) };
                Stmt::Import(Spanned::new(import, node.span()))
            }
            Stmt::FromImport(node) => {
                let names = node.names.iter().map(|(name, alias)| (copy(name), alias.as_ref().map(copy))).collect();
                let import = FromImport { expr: self.expression(&node.expr), names };
                Stmt::FromImport(Spanned::new(import, node.span()))
            }
            Stmt::Extends(node) => {
                Stmt::Extends(Spanned::new(Extends { name: self.expression(&node.name) }, node.span()))
            }
            Stmt::Include(node) => {
                let include = Include { name: self.expression(&node.name), ignore_missing: node.ignore_missing };
                scoped(vec![Stmt::Include(Spanned::new(include, node.span()))], node.span())
            }
            Stmt::Macro(node) => Stmt::Macro(self.declaration(node)),
            Stmt::CallBlock(node) => {
                let block = CallBlock {
                    call: self.call(&node.call),
                    call_expr_span: node.call_expr_span,
                    macro_decl: self.declaration(&node.macro_decl),
                };
                Stmt::CallBlock(Spanned::new(block, node.span()))
            }
            Stmt::Do(node) => Stmt::Do(Spanned::new(Do { call: self.call(&node.call) }, node.span())),
        }
    }

    fn declaration<'a>(&self, node: &Spanned<Macro<'a>>) -> Spanned<Macro<'a>> {
        let declared = Macro {
            name: node.name,
            args: node.args.iter().map(copy).collect(),
            defaults: self.expressions(&node.defaults),
            body: self.body(&node.body),
        };
        Spanned::new(declared, node.span())
    }

    fn call<'a>(&self, node: &Spanned<Call<'a>>) -> Spanned<Call<'a>> {
        let call = Call { expr: self.expression(&node.expr), args: self.arguments(&node.args) };
        Spanned::new(call, node.span())
    }

    fn arguments<'a>(&self, arguments: &[CallArg<'a>]) -> Vec<CallArg<'a>> {
        let argument = |argument: &CallArg<'a>| match argument {
            CallArg::Pos(expr) => CallArg::Pos(self.expression(expr)),
            CallArg::Kwarg(name, expr) => CallArg::Kwarg(name, self.expression(expr)),
            CallArg::PosSplat(expr) => CallArg::PosSplat(self.expression(expr)),
            CallArg::KwargSplat(expr) => CallArg::KwargSplat(self.expression(expr)),
        };
        arguments.iter().map(argument).collect()
    }

    fn expression<'a>(&self, expr: &Expr<'a>) -> Expr<'a> {
        match expr {
            Expr::Var(node) => Expr::Var(Spanned::new(Var { id: node.id }, node.span())),
            Expr::Const(node) => Expr::Const(Spanned::new(Const { value: node.value.clone() }, node.span())),
            Expr::Slice(node) => {
                let slice = Slice {
                    expr: call(SLICE, vec![self.expression(&node.expr)], node.span()),
                    start: self.optional(node.start.as_ref()),
                    stop: self.optional(node.stop.as_ref()),
                    step: self.optional(node.step.as_ref()),
                };
                Expr::Slice(Spanned::new(slice, node.span()))
            }
            Expr::UnaryOp(node) => {
                let op = if matches!(node.op, UnaryOpKind::Not) { UnaryOpKind::Not } else { UnaryOpKind::Neg };
                Expr::UnaryOp(Spanned::new(UnaryOp { op, expr: self.expression(&node.expr) }, node.span()))
            }
            Expr::BinOp(node) => {
                operator(node.op, self.expression(&node.left), self.expression(&node.right), node.span())
            }
            Expr::Compare(node) => self.chain(node),
            Expr::IfExpr(node) => {
                let branch = IfExpr {
                    test_expr: self.expression(&node.test_expr),
                    true_expr: self.expression(&node.true_expr),
                    false_expr: self.optional(node.false_expr.as_ref()),
                };
                Expr::IfExpr(Spanned::new(branch, node.span()))
            }
            Expr::Filter(node) => {
                let filter = Filter {
                    name: node.name,
                    expr: self.optional(node.expr.as_ref()),
                    args: self.arguments(&node.args),
                };
                let filter = Expr::Filter(Spanned::new(filter, node.span()));
                let makes_list = matches!(node.name, "list" | "sort");
                if self.mutable_literals && makes_list { call(LIST, vec![filter], node.span()) } else { filter }
            }
            Expr::Test(node) => {
                let test =
                    Test { name: node.name, expr: self.expression(&node.expr), args: self.arguments(&node.args) };
                Expr::Test(Spanned::new(test, node.span()))
            }
            Expr::GetAttr(node) => {
                let attribute = GetAttr { expr: self.expression(&node.expr), name: node.name };
                Expr::GetAttr(Spanned::new(attribute, node.span()))
            }
            Expr::GetItem(node) => {
                let item = GetItem {
                    expr: self.expression(&node.expr),
                    subscript_expr: self.expression(&node.subscript_expr),
                };
                Expr::GetItem(Spanned::new(item, node.span()))
            }
            Expr::Call(node) => Expr::Call(self.call(node)),
            Expr::List(node) => {
                let list = Expr::List(Spanned::new(ListLiteral { items: self.expressions(&node.items) }, node.span()));
                let list = charged(list, node.span());
                if self.mutable_literals { call(LIST, vec![list], node.span()) } else { list }
            }
            Expr::Tuple(node) => {
                let tuple = Expr::Tuple(Spanned::new(Tuple { items: self.expressions(&node.items) }, node.span()));
                charged(tuple, node.span())
            }
            Expr::Map(node) => {
                let map = Map { keys: self.expressions(&node.keys), values: self.expressions(&node.values) };
                let map = charged(Expr::Map(Spanned::new(map, node.span())), expr.span());
                if self.mutable_literals { call(DICT, vec![map], expr.span()) } else { map }
            }
        }
    }

    /// `a < b < c` as `a < b and b < c`.
    fn chain<'a>(&self, node: &Spanned<Compare<'a>>) -> Expr<'a> {
        let lefts = std::iter::once(&node.expr).chain(node.ops.iter().map(|op| &op.expr));
        let links = lefts.zip(&node.ops).map(|(left, op)| {
            let (left, right) = (self.expression(left), self.expression(&op.expr));
            let (kind, negated) = match op.op {
                CompareOpKind::Eq => (BinOpKind::Eq, false),
                CompareOpKind::Ne => (BinOpKind::Ne, false),
                CompareOpKind::Lt => (BinOpKind::Lt, false),
                CompareOpKind::Lte => (BinOpKind::Lte, false),
                CompareOpKind::Gt => (BinOpKind::Gt, false),
                CompareOpKind::Gte => (BinOpKind::Gte, false),
                CompareOpKind::In => (BinOpKind::In, false),
                CompareOpKind::NotIn => (BinOpKind::In, true),
            };
            let link = operator(kind, left, right, node.span());
            match negated {
                true => Expr::UnaryOp(Spanned::new(UnaryOp { op: UnaryOpKind::Not, expr: link }, node.span())),
                false => link,
            }
        });
        let both = |left, right| Expr::BinOp(Spanned::new(BinOp { op: BinOpKind::ScAnd, left, right }, node.span()));
        links.reduce(both).unwrap_or_else(|| self.expression(&node.expr))
    }
}

/// An operator between two operands that have been changed already.
fn operator<'a>(op: BinOpKind, left: Expr<'a>, right: Expr<'a>, span: Span) -> Expr<'a> {
    let function = match op {
        BinOpKind::Eq => "==",
        BinOpKind::Ne => "!=",
        BinOpKind::Lt => "<",
        BinOpKind::Lte => "<=",
        BinOpKind::Gt => ">",
        BinOpKind::Gte => ">=",
        BinOpKind::In => CONTAINS,
        BinOpKind::Concat => CONCATENATE,
        // The type of anything but a constant is not known yet.
        BinOpKind::Rem if matches!(&left, Expr::Const(text) if text.value.kind() == ValueKind::String) => FORMAT,
        op => {
            let joins_lists = matches!(op, BinOpKind::Add | BinOpKind::Mul);
            let result = Expr::BinOp(Spanned::new(BinOp { op, left, right }, span));
            return if joins_lists { call(SETTLE, vec![result], span) } else { result };
        }
    };
    call(function, vec![left, right], span)
}

/// An expression whose value is paid for by its size. Constants are as large as they are written.
fn charged<'a>(expr: Expr<'a>, span: Span) -> Expr<'a> {
    let constant = |expr: &Expr<'a>| matches!(expr, Expr::Const(_));
    let small = match &expr {
        Expr::Const(_) => true,
        Expr::List(node) => node.items.iter().all(constant),
        Expr::Tuple(node) => node.items.iter().all(constant),
        Expr::Map(node) => node.keys.iter().chain(&node.values).all(constant),
        _ => false,
    };
    if small { expr } else { call(SIZE, vec![expr], span) }
}

fn scoped<'a>(body: Vec<Stmt<'a>>, span: Span) -> Stmt<'a> {
    Stmt::WithBlock(Spanned::new(WithBlock { assignments: Vec::new(), body }, span))
}

/// Copies what needs no change: names and targets of assignments.
fn copy<'a>(expr: &Expr<'a>) -> Expr<'a> {
    match expr {
        // The targets are unpacked as they are, never made into lists of ours.
        Expr::List(node) => {
            Expr::List(Spanned::new(ListLiteral { items: node.items.iter().map(copy).collect() }, node.span()))
        }
        Expr::Tuple(node) => {
            Expr::Tuple(Spanned::new(Tuple { items: node.items.iter().map(copy).collect() }, node.span()))
        }
        other => Rewrite { mutable_literals: false }.expression(other),
    }
}

fn call<'a>(function: &'static str, arguments: Vec<Expr<'a>>, span: Span) -> Expr<'a> {
    let function = Expr::Var(Spanned::new(Var { id: function }, span));
    let args = arguments.into_iter().map(CallArg::Pos).collect();
    Expr::Call(Spanned::new(Call { expr: function, args }, span))
}
