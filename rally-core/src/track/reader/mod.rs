//! From a rendered track file to the object model.

mod corpora;
mod operation;
mod schedule;
mod schema;

use std::collections::{BTreeSet, HashMap, HashSet};

use serde_json::Value;

use super::fault::{Fault, Node};
use super::load::LoadWarning;
use super::model::{ComponentTemplate, DataStream, Index, IndexTemplate, JsonObject, Track};
use super::template::{Kind, Renderer};

/// Reads a track from what `track.json` rendered to.
pub(crate) struct Reader<'a> {
    renderer: &'a Renderer,
    /// Variables that index bodies and templates take from outside.
    pub(crate) exposed: BTreeSet<String>,
    pub(crate) warnings: Vec<LoadWarning>,
    faults: Vec<Fault>,
    /// Files that several indices or templates share: what each gives, or what is wrong with it.
    shared: HashMap<String, Option<Result<Value, String>>>,
}

/// Lists of the track whose elements name a file, and under which key.
const FILES: [(&str, &str); 4] = [
    ("indices", "body"),
    ("templates", "template"),
    ("composable-templates", "template"),
    ("component-templates", "template"),
];

impl<'a> Reader<'a> {
    pub(crate) fn new(renderer: &'a Renderer) -> Self {
        Self { renderer, exposed: BTreeSet::new(), warnings: Vec::new(), faults: Vec::new(), shared: HashMap::new() }
    }

    /// Reads the track called `name`, or says all that is wrong with it.
    pub(crate) fn read(&mut self, name: &str, specification: &Value) -> Result<Track, Vec<Fault>> {
        let root = Node::root(specification);
        let mut faults = schema::check(&root);
        // What has the right shape is read all the same, for all else that may be wrong with it.
        let broken: HashSet<String> = faults.iter().map(|fault| fault.section().to_owned()).collect();
        let is_sound = |sections: &[&str]| !broken.contains("") && sections.iter().all(|it| !broken.contains(*it));
        self.shared = shared_files(specification).map(|file| (file, None)).collect();
        let indices = self.list_if(is_sound(&["indices"]), &root, "indices", Self::index);
        let data_streams = self.list_if(is_sound(&["data-streams"]), &root, "data-streams", |_, node| DataStream {
            name: text(node, "name"),
        });
        if !indices.is_empty() && !data_streams.is_empty() {
            self.faults.push(root.lack("`indices` and `data-streams` exclude each other"));
        }
        let templates = self.list_if(is_sound(&["templates"]), &root, "templates", Self::index_template);
        let composable = "composable-templates";
        let composable_templates = self.list_if(is_sound(&[composable]), &root, composable, Self::index_template);
        let component = "component-templates";
        let component_templates = self.list_if(is_sound(&[component]), &root, component, Self::component_template);
        let corpora = match is_sound(&["corpora", "indices", "data-streams"]) {
            true => self.corpora(&root, &indices, &data_streams),
            false => Vec::new(),
        };
        let challenges = match is_sound(&["operations", "parameters", "challenge", "challenges", "schedule"]) {
            true => self.challenges(&root),
            false => Vec::new(),
        };
        faults.append(&mut self.faults);
        if !faults.is_empty() {
            return Err(faults);
        }
        Ok(Track {
            name: name.to_owned(),
            description: text(&root, "description"),
            meta: object(&root, "meta"),
            dependencies: self
                .list(&root, "dependencies", |_, node| node.value().as_str().unwrap_or_default().to_owned()),
            indices,
            data_streams,
            templates,
            composable_templates,
            component_templates,
            corpora,
            challenges,
            has_python_plugin: false,
        })
    }

    fn list_if<T>(
        &mut self,
        is_sound: bool,
        parent: &Node<'_>,
        key: &str,
        each: impl FnMut(&mut Self, &Node<'_>) -> T,
    ) -> Vec<T> {
        if is_sound { self.list(parent, key, each) } else { Vec::new() }
    }

    fn list<T>(&mut self, parent: &Node<'_>, key: &str, mut each: impl FnMut(&mut Self, &Node<'_>) -> T) -> Vec<T> {
        let Some(node) = parent.get(key) else { return Vec::new() };
        node.elements().map(|element| each(self, &element)).collect()
    }

    fn index(&mut self, node: &Node<'_>) -> Index {
        self.warn_of_mapping_types(node.get("types"));
        let body = match node.get("body") {
            Some(file) if file.value() != "" && !file.value().is_null() => self.render_file(&file),
            _ => Value::Object(JsonObject::new()),
        };
        Index { name: text(node, "name"), body }
    }

    fn warn_of_mapping_types(&mut self, found: Option<Node<'_>>) {
        self.warnings.extend(found.map(|found| LoadWarning::MappingTypes { pointer: found.lack("").pointer }));
    }

    fn index_template(&mut self, node: &Node<'_>) -> IndexTemplate {
        IndexTemplate {
            name: text(node, "name"),
            pattern: text(node, "index-pattern"),
            delete_matching_indices: node.get("delete-matching-indices").is_none_or(|flag| *flag.value() == true),
            content: self.template_content(node),
        }
    }

    fn component_template(&mut self, node: &Node<'_>) -> ComponentTemplate {
        ComponentTemplate { name: text(node, "name"), content: self.template_content(node) }
    }

    /// The content of a template's file, narrowed down by `template-path`.
    fn template_content(&mut self, node: &Node<'_>) -> Value {
        let Some(file) = node.get("template") else { return Value::Null };
        let faults = self.faults.len();
        let mut content = self.render_file(&file);
        let Some(path) = node.get("template-path").filter(|path| path.value() != "" && faults == self.faults.len())
        else {
            return content;
        };
        for key in path.value().as_str().unwrap_or_default().split('.') {
            match content.get_mut(key).map(Value::take) {
                Some(inner) => content = inner,
                None => {
                    let file = file.value().as_str().unwrap_or_default();
                    self.faults.push(path.fault(format!("there is no `{key}` at this point of `{file}`")));
                    return Value::Null;
                }
            }
        }
        content
    }

    /// Renders a file that the track names.
    fn render_file(&mut self, file: &Node<'_>) -> Value {
        let path = file.value().as_str().unwrap_or_default();
        let rendered = match self.shared.get(path) {
            Some(Some(known)) => known.clone(),
            seen => {
                let is_shared = seen.is_some();
                let rendered = self
                    .renderer
                    .assemble(path)
                    .and_then(|assembled| self.renderer.render(&assembled.source, Kind::Body, &mut self.exposed))
                    .map_err(|error| error.to_string());
                if is_shared {
                    self.shared.insert(path.to_owned(), Some(rendered.clone()));
                }
                rendered
            }
        };
        rendered.unwrap_or_else(|problem| {
            self.faults.push(file.lack(problem));
            Value::Null
        })
    }
}

/// The files that are named more than once.
fn shared_files(track: &Value) -> impl Iterator<Item = String> {
    let mut seen = HashSet::new();
    let named = FILES.into_iter().flat_map(|(list, key)| {
        let elements = track.get(list).and_then(Value::as_array).into_iter().flatten();
        elements.filter_map(move |element| element.get(key)?.as_str())
    });
    named.filter(move |file| !seen.insert(*file)).map(str::to_owned)
}

/// A text, empty if it is not there.
fn text(node: &Node<'_>, key: &str) -> String {
    optional_text(node, key).unwrap_or_default()
}

fn optional_text(node: &Node<'_>, key: &str) -> Option<String> {
    node.get(key)?.value().as_str().map(str::to_owned)
}

/// An object, empty if it is not there.
fn object(node: &Node<'_>, key: &str) -> JsonObject {
    node.get(key).and_then(|member| member.value().as_object().cloned()).unwrap_or_default()
}
