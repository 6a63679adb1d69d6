//! Task filters: `--include-tasks` and `--exclude-tasks`.

use std::str::FromStr;

use super::model::{Challenge, ScheduleElement, Task, Track};

/// The tasks of a track that are kept. It applies to all challenges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum TaskSelection {
    /// All tasks.
    #[default]
    All,
    /// Only tasks that match one of these: a task name, `type:` and an operation type, or `tag:` and a tag.
    Include(Vec<String>),
    /// All tasks but those that match one of these, written in the same way.
    Exclude(Vec<String>),
}

/// A task filter is neither a name, nor a type, nor a tag.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{filter}` is no task filter: expected the name of a task, `type:` and an operation type, or `tag:` and a tag"
)]
pub struct ParseTaskFilterError {
    /// What was given.
    pub filter: String,
}

/// What a task is matched by.
#[derive(Clone, Debug, PartialEq, Eq)]
enum TaskFilter {
    Name(String),
    Type(String),
    Tag(String),
}

impl FromStr for TaskFilter {
    type Err = ParseTaskFilterError;

    fn from_str(filter: &str) -> Result<Self, Self::Err> {
        match filter.split(':').collect::<Vec<_>>().as_slice() {
            [name] => Ok(Self::Name((*name).to_owned())),
            ["type", operation_type] => Ok(Self::Type((*operation_type).to_owned())),
            ["tag", tag] => Ok(Self::Tag((*tag).to_owned())),
            _ => Err(ParseTaskFilterError { filter: filter.to_owned() }),
        }
    }
}

impl TaskFilter {
    fn matches(&self, task: &Task) -> bool {
        match self {
            Self::Name(name) => task.name == *name,
            Self::Type(operation_type) => task.operation.operation_type.as_str() == operation_type,
            Self::Tag(tag) => task.tags.contains(tag),
        }
    }
}

/// A selection whose filters are understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TaskFilters {
    filters: Vec<TaskFilter>,
    /// Whether matching tasks are kept, rather than left out.
    include: bool,
}

impl TaskFilters {
    pub(crate) fn parse(selection: &TaskSelection) -> Result<Self, ParseTaskFilterError> {
        let (filters, include) = match selection {
            TaskSelection::All => (&[][..], false),
            TaskSelection::Include(filters) => (filters.as_slice(), !filters.is_empty()),
            TaskSelection::Exclude(filters) => (filters.as_slice(), false),
        };
        Ok(Self { filters: filters.iter().map(|filter| filter.parse()).collect::<Result<_, _>>()?, include })
    }

    pub(crate) fn apply(&self, track: &mut Track) {
        if !self.filters.is_empty() {
            track.challenges.iter_mut().for_each(|challenge| self.apply_to(challenge));
        }
    }

    fn keeps(&self, task: &Task) -> bool {
        self.filters.iter().any(|filter| filter.matches(task)) == self.include
    }

    fn apply_to(&self, challenge: &mut Challenge) {
        challenge.schedule.retain_mut(|element| match element {
            ScheduleElement::Task(task) => self.keeps(task),
            ScheduleElement::Parallel(parallel) => {
                parallel.tasks.retain(|task| self.keeps(task));
                // Leaving out never removes the element as a whole, even if nothing is left in it.
                !self.include || !parallel.tasks.is_empty()
            }
        });
    }
}
