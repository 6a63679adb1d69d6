//! What may surround a race.

/// A pipeline: what happens before a race and after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pipeline {
    /// What it is asked for by.
    pub name: &'static str,
    /// What it does, in one sentence.
    pub description: &'static str,
    /// Whether this version has it.
    pub is_there: bool,
}

/// All pipelines of the original.
pub const PIPELINES: [Pipeline; 4] = [
    Pipeline {
        name: "benchmark-only",
        description: "Races against a cluster that runs already, and reports results.",
        is_there: true,
    },
    Pipeline {
        name: "from-distribution",
        description: "Downloads Elasticsearch, launches it, races against it, and reports results.",
        is_there: false,
    },
    Pipeline {
        name: "from-sources",
        description: "Builds Elasticsearch, launches it, races against it, and reports results.",
        is_there: false,
    },
    Pipeline {
        name: "docker",
        description: "Launches Elasticsearch in a container, races against it, and reports results.",
        is_there: false,
    },
];
