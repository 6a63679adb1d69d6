//! Reads corpora and finds out where their documents go.

use std::collections::HashSet;

use super::{Reader, object, optional_text, text};
use crate::track::fault::Node;
use crate::track::model::{Corpus, DataStream, Documents, Index, SourceFormat};

/// What a corpus says for all its document sets.
#[derive(Debug)]
struct Defaults<'a> {
    corpus: &'a Node<'a>,
    /// Whether the track has indices, and whether it has data streams.
    indices: bool,
    data_streams: bool,
    target_index: Option<String>,
    target_data_stream: Option<String>,
}

impl Reader<'_> {
    pub(super) fn corpora(&mut self, track: &Node<'_>, indices: &[Index], data_streams: &[DataStream]) -> Vec<Corpus> {
        let mut names = HashSet::new();
        self.list(track, "corpora", |reader, node| {
            let name = text(node, "name");
            if !names.insert(name.clone()) {
                reader.faults.push(node.lack(format!("another corpus is called `{name}` as well")));
            }
            // What the corpus says, or else the only one there is.
            let target = |key: &str, names: Vec<&String>| match names.as_slice() {
                [] => None,
                [only] => optional_text(node, key).or_else(|| Some((*only).clone())),
                _ => optional_text(node, key),
            };
            let defaults = Defaults {
                corpus: node,
                indices: !indices.is_empty(),
                data_streams: !data_streams.is_empty(),
                target_index: target("target-index", indices.iter().map(|index| &index.name).collect()),
                target_data_stream: target(
                    "target-data-stream",
                    data_streams.iter().map(|data_stream| &data_stream.name).collect(),
                ),
            };
            reader.warn_of_mapping_types(node.get("target-type"));
            let documents = reader.list(node, "documents", |reader, node| reader.documents(node, &defaults));
            Corpus { name, meta: object(node, "meta"), documents }
        })
    }

    fn documents(&mut self, node: &Node<'_>, defaults: &Defaults<'_>) -> Documents {
        self.warn_of_mapping_types(node.get("target-type"));
        let format = node.get("source-format").or_else(|| defaults.corpus.get("source-format"));
        if let Some(format) = format.filter(|format| format.value() != SourceFormat::Bulk.as_str()) {
            self.faults.push(format.fault("the only format is `bulk`"));
        }
        let flag = "includes-action-and-meta-data";
        let includes_action_and_meta_data =
            node.get(flag).or_else(|| defaults.corpus.get(flag)).is_some_and(|flag| *flag.value() == true);
        let (target_index, target_data_stream) =
            if includes_action_and_meta_data { (None, None) } else { self.targets(node, defaults) };
        let (document_file, document_archive) = Documents::split_source(&text(node, "source-file"));
        let number = |key| node.get(key).and_then(|number| number.value().as_u64());
        Documents {
            source_format: SourceFormat::Bulk,
            document_file,
            document_archive,
            base_url: optional_text(node, "base-url").or_else(|| optional_text(defaults.corpus, "base-url")),
            includes_action_and_meta_data,
            number_of_documents: number("document-count").unwrap_or_default(),
            compressed_size_in_bytes: number("compressed-bytes"),
            uncompressed_size_in_bytes: number("uncompressed-bytes"),
            target_index,
            target_data_stream,
            meta: object(node, "meta"),
        }
    }

    /// The index or the data stream that documents without action lines go to.
    fn targets(&mut self, node: &Node<'_>, defaults: &Defaults<'_>) -> (Option<String>, Option<String>) {
        let index = optional_text(node, "target-index").or_else(|| defaults.target_index.clone());
        let data_stream = optional_text(node, "target-data-stream").or_else(|| defaults.target_data_stream.clone());
        if let (Some(_), Some(target_type)) = (&data_stream, node.get("target-type")) {
            self.faults.push(target_type.fault("makes no sense together with a data stream"));
        }
        if data_stream.is_some() && defaults.indices {
            self.faults.push(node.lack("`target-data-stream` makes no sense: the track declares `indices`"));
        } else if index.is_some() && defaults.data_streams {
            self.faults.push(node.lack("`target-index` makes no sense: the track declares `data-streams`"));
        } else if index.is_none() && data_stream.is_none() {
            let wanted = match (defaults.indices, defaults.data_streams) {
                (true, _) => "`target-index` is missing, and the track declares several indices",
                (false, true) => "`target-data-stream` is missing, and the track declares several data streams",
                (false, false) => {
                    "nowhere to put the documents: give `target-index` or `target-data-stream`, declare an index or a \
                     data stream, or set `includes-action-and-meta-data` if the file says it"
                }
            };
            self.faults.push(node.lack(wanted));
        }
        (index, data_stream)
    }
}
