//! Templates: Jinja2 as tracks use it, rendered to JSON.

mod assemble;
mod error;
mod filters;
mod methods;
mod python;
mod semantics;
mod undeclared;

use std::cell::OnceCell;
use std::collections::{BTreeSet, HashMap};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use memchr::memmem;
use minijinja::machinery::ast::Stmt;
use minijinja::machinery::{CodeGenerator, eval, make_string_output, parse};
use minijinja::syntax::SyntaxConfig;
use minijinja::{AutoEscape, Environment, ErrorKind, OutputSpanKind, Value};

pub(crate) use assemble::{Assembled, assemble};
pub use error::{JsonError, TemplateError};

use super::files::{self, TrackFiles};
use super::source::{Location, SourceText};

/// The macros that a track imports from `rally.helpers`.
const HELPERS: &str = r#"
{%- macro collect(parts) -%}
    {% for part in glob(parts) %}{% if not loop.first %},{% endif %}{% include part %}{% endfor %}
{%- endmacro -%}
{%- macro exists_set_param(setting_name, value, default_value=None, comma=True) -%}
    {% if value is defined or default_value is not none -%}
        {% if comma %}, {% endif %}"{{ setting_name }}": {{ value | default(default_value) | tojson }}
    {%- endif %}
{%- endmacro -%}
"#;

/// How far rendering a template may go before it is stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Steps that one template may take: roughly one for each expression, each turn of a loop and each 64 bytes of
    /// text. The default of 20 million is a few seconds; the largest of the public tracks takes less than 100,000.
    pub steps: u64,
    /// Bytes that one template may grow to, with its parts and rendered. The default is 64 MiB.
    pub output_bytes: usize,
    /// Macros, includes and loops within each other. The default is 200.
    pub depth: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { steps: 20_000_000, output_bytes: 64 << 20, depth: 200 }
    }
}

/// What templates can see, apart from the files.
#[derive(Clone, Debug)]
pub(crate) struct Globals {
    pub(crate) parameters: serde_json::Map<String, serde_json::Value>,
    pub(crate) build_flavor: String,
    pub(crate) serverless_operator: bool,
    pub(crate) now: f64,
}

/// Which of the two environments a template is rendered in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `track.json`: with `now`, `glob`, filters about dates, and files to include.
    Track,
    /// The body of an index or a template: none of these.
    Body,
}

/// Renders the templates of one track.
pub(crate) struct Renderer {
    pub(crate) files: Arc<dyn TrackFiles>,
    globals: Globals,
    limits: Limits,
    /// What all bodies have in common.
    bodies: OnceCell<Environment<'static>>,
}

impl Renderer {
    pub(crate) fn new(files: Arc<dyn TrackFiles>, globals: Globals, limits: Limits) -> Self {
        Self { files, globals, limits, bodies: OnceCell::new() }
    }

    /// Reads a file of the track and pastes the parts that it collects.
    pub(crate) fn assemble(&self, path: &str) -> Result<Assembled, TemplateError> {
        let text = files::read_text(self.files.as_ref(), path).map_err(|source| TemplateError::Read {
            path: path.to_owned(),
            from: None,
            source,
        })?;
        assemble(self.files.as_ref(), "", SourceText::of_file(path, text), &self.limits)
    }

    /// Renders a template and parses what it gives. The variables that it takes from outside are added to `exposed`.
    pub(crate) fn render(
        &self,
        source: &SourceText,
        kind: Kind,
        exposed: &mut BTreeSet<String>,
    ) -> Result<serde_json::Value, TemplateError> {
        let name = source.locate(0).file;
        // Bodies of indices are often large and mostly plain; there is nothing to render in that part of them.
        let (template_text, plain) = source.as_str().split_at(end_of_templates(source.as_str()));
        if template_text.is_empty() {
            return serde_json::from_str(source.as_str()).map_err(|error| {
                let error = JsonError::new(&name, source.as_str(), &error);
                let origin = Some(source.locate(error.offset));
                TemplateError::Json(Box::new(error.with_origin(origin)))
            });
        }
        let included = Arc::new(Mutex::new(HashMap::new()));
        let template = parse_checked(template_text, &name).map_err(|error| self.describe(&error, source, &included))?;
        exposed.append(&mut undeclared::undeclared(&template));
        let track;
        let env = match kind {
            Kind::Track => {
                track = self.environment(kind, included.clone());
                &track
            }
            Kind::Body => self.bodies.get_or_init(|| self.environment(kind, Arc::default())),
        };
        let text = match evaluate(env, &name, template_text, &template) {
            Ok(text) => text + plain,
            Err(error) => {
                // Once more, now with the positions that debugging keeps.
                let mut env = env.clone();
                env.set_debug(true);
                let again = evaluate(&env, &name, template_text, &template);
                return Err(self.describe(again.as_ref().err().unwrap_or(&error), source, &included));
            }
        };
        if text.len() > self.limits.output_bytes {
            return Err(TemplateError::TooLarge { limit: self.limits.output_bytes, location: None });
        }
        serde_json::from_str(&text).map_err(|error| {
            let error = JsonError::new(&name, &text, &error);
            let (origin, empty) = Self::origin(env, source, &name, &included, error.offset);
            TemplateError::Json(Box::new(error.with_origin(origin).with_empty(empty, &text)))
        })
    }

    fn environment(&self, kind: Kind, included: Arc<Mutex<HashMap<String, SourceText>>>) -> Environment<'static> {
        let mut env = Environment::new();
        env.set_auto_escape_callback(|_| AutoEscape::None);
        env.set_fuel(Some(self.limits.steps));
        env.set_recursion_limit(self.limits.depth);
        env.set_unknown_method_callback(methods::unknown_method);
        env.set_formatter(|out, state, value| match python::as_float(value) {
            Some(float) => Ok(out.write_str(&python::float_text(float))?),
            None if value.as_object().is_some() => Ok(out.write_str(&python::text_of(value)?)?),
            None => minijinja::escape_formatter(out, state, value),
        });
        env.remove_global("debug");
        filters::add(&mut env, self.limits.output_bytes);
        semantics::add_functions(&mut env, self.limits.output_bytes);
        semantics::add_tests(&mut env);
        env.add_function("range", python::Range::call);
        env.add_function("dict", python::dict);
        env.add_function("joiner", minijinja_contrib::globals::joiner);
        env.add_function("cycler", minijinja_contrib::globals::cycler);
        for (name, value) in &self.globals.parameters {
            env.add_global(name.clone(), python::from_json(value));
        }
        env.add_global("build_flavor", self.globals.build_flavor.clone());
        env.add_global("serverless_operator", self.globals.serverless_operator);
        if kind == Kind::Track {
            filters::add_dates(&mut env);
            env.add_global("now", self.globals.now);
            let files = self.files.clone();
            env.add_function("glob", move |pattern: String| glob(files.as_ref(), &pattern));
        }
        let files = self.files.clone();
        env.set_loader(move |name| {
            if name == "rally.helpers" {
                return Ok(Some(HELPERS.to_owned()));
            }
            if kind == Kind::Body || name.split('/').any(|part| part == "..") {
                return Ok(None);
            }
            match files::read_text(files.as_ref(), name) {
                Ok(text) => {
                    // First of all, so that the place of an error in it can be found.
                    let source = SourceText::of_file(name, text.clone());
                    included.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), source);
                    parse_checked(&text, name)?;
                    Ok(Some(text))
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(minijinja::Error::new(ErrorKind::InvalidOperation, format!("cannot read `{name}`"))
                    .with_source(error)),
            }
        });
        env
    }

    /// Where in the templates a byte of the rendered text came from, and the expression that stands just before it.
    fn origin(
        env: &Environment<'_>,
        source: &SourceText,
        name: &str,
        included: &Mutex<HashMap<String, SourceText>>,
        offset: usize,
    ) -> (Option<Location>, Option<String>) {
        let included = included.lock().unwrap_or_else(PoisonError::into_inner);
        let find = || {
            let template = env.template_from_named_str(name, source.as_str()).ok()?;
            let (_, spans) = template.render_with_spans(()).ok()?;
            let index = spans.partition_point(|span| span.output_range().start <= offset).checked_sub(1)?;
            let span = spans.get(index)?;
            let into = match span.kind() {
                OutputSpanKind::Raw => offset - span.output_range().start,
                _ => 0,
            };
            let source = if span.name() == name { source } else { included.get(span.name())? };
            Some((source, span.source_range().start + into))
        };
        let Some((source, position)) = find() else { return (None, None) };
        let expression = || {
            let before = source.as_str().get(..position)?.trim_end().strip_suffix("}}")?;
            Some(before[before.rfind("{{")? + 2..].trim_matches(['-', '+', ' ']).to_owned())
        };
        (Some(source.locate(position)), expression())
    }

    /// Puts an error of the engine into our words, with the place in the files of the track.
    fn describe(
        &self,
        error: &minijinja::Error,
        source: &SourceText,
        included: &Mutex<HashMap<String, SourceText>>,
    ) -> TemplateError {
        // The innermost error knows the included file or the macro that is at fault.
        let mut innermost = error;
        while let Some(next) =
            std::error::Error::source(innermost).and_then(|source| source.downcast_ref::<minijinja::Error>())
        {
            innermost = next;
        }
        let included = included.lock().unwrap_or_else(PoisonError::into_inner);
        let file = innermost.name().and_then(|name| included.get(name)).unwrap_or(source);
        let offset = innermost.range().map(|range| range.start).or_else(|| {
            let line = innermost.line()?;
            Some(file.as_str().split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum())
        });
        let location = offset.filter(|_| innermost.name() != Some("rally.helpers")).map(|offset| file.locate(offset));
        match innermost.kind() {
            ErrorKind::OutOfFuel => TemplateError::Endless { limit: self.limits.steps, location },
            _ => {
                let mut message = match innermost.detail() {
                    Some(detail) => format!("{}: {detail}", innermost.kind()),
                    None => innermost.kind().to_string(),
                };
                if let Some(cause) = std::error::Error::source(innermost) {
                    message = format!("{message}: {cause}");
                }
                let excerpt = offset.map(|offset| error::excerpt(file.as_str(), offset));
                TemplateError::Engine { message, location, excerpt }
            }
        }
    }
}

/// The function `glob`: paths that match a pattern relative to the folder of the track.
fn glob(files: &dyn TrackFiles, pattern: &str) -> Result<Value, minijinja::Error> {
    let paths = files::expand_pattern(files, pattern)
        .map_err(|error| minijinja::Error::new(ErrorKind::InvalidOperation, error.to_string()))?;
    Ok(paths.into_iter().filter(|path| path != pattern || files.read(path).is_ok()).map(Value::from).collect())
}

/// Where the part of a text begins that is plain to its end; 0 if all of it is.
fn end_of_templates(text: &str) -> usize {
    let bytes = text.as_bytes();
    let tags = [("{{", "}}"), ("{%", "%}"), ("{#", "#}")];
    let last =
        tags.into_iter().filter_map(|(opening, closing)| Some((memmem::rfind(bytes, opening.as_bytes())?, closing)));
    let Some((opening, closing)) = last.max() else { return 0 };
    match memmem::rfind(bytes, closing.as_bytes()) {
        // After `-` the blanks that follow are left out, which is the engine's business.
        Some(at) if at > opening && bytes[at - 1] != b'-' => at + closing.len(),
        _ => text.len(),
    }
}

/// Parses a template, and refuses what cannot be compiled.
fn parse_checked<'a>(source: &'a str, name: &'a str) -> Result<Stmt<'a>, minijinja::Error> {
    let template = parse(source, name, SyntaxConfig::default())?;
    semantics::check_statements(&template)?;
    Ok(template)
}

/// Runs a template with Python's operators.
fn evaluate(env: &Environment<'_>, name: &str, source: &str, template: &Stmt<'_>) -> Result<String, minijinja::Error> {
    let template = semantics::with_python_operators(template, source);
    let mut generator = CodeGenerator::new(name, source);
    generator.compile_stmt(&template);
    let (instructions, blocks) = generator.finish();
    let mut text = String::with_capacity(source.len());
    let mut output = make_string_output(&mut text);
    eval(env, &instructions, Value::from(()), &blocks, &mut output, AutoEscape::None)?;
    drop(output);
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plain_end_of_a_text_begins_after_its_last_tag() {
        for (text, plain) in [
            ("{\"a\": {\"b\": 1}}", "{\"a\": {\"b\": 1}}"),
            ("{\"a\": {{ a }},\n \"b\": {} }", ",\n \"b\": {} }"),
            ("{{ '}}' }} 1", " 1"),
            ("{{ a }}{\"b\": {}}", ""),
            ("{% if a -%} 1", ""),
            ("{{ a", ""),
            ("}} {{ a", ""),
            ("{# a #}\n1", "\n1"),
        ] {
            assert_eq!(&text[end_of_templates(text)..], plain, "{text}");
        }
    }
}
