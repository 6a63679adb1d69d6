//! `{{ rally.collect(parts="...") }}`, which is replaced as text before any template is rendered.

use std::io;
use std::ops::Range;

use memchr::memmem;

use super::{Limits, TemplateError};
use crate::track::files::{self, TrackFiles};
use crate::track::source::{Location, SourceText};

const OPENING: &str = "rally.collect(parts=\"";

/// A template with all its parts pasted in.
#[derive(Debug)]
pub(crate) struct Assembled {
    pub(crate) source: SourceText,
    /// Patterns that matched no file. The track is usually broken then, but Rally does not mind.
    pub(crate) unmatched: Vec<(String, Location)>,
}

/// Pastes the parts that `text` collects into it, and the parts of the parts.
///
/// Patterns are relative to `folder`, those of a part to the folder that its own pattern names. Parts are sorted by path
/// and joined by a comma and a line feed. This happens to the bare text, whatever the template engine would make of it:
/// inside a false `{% if %}`, a comment or `{% raw %}` as well.
pub(crate) fn assemble(
    files: &dyn TrackFiles,
    folder: &str,
    text: SourceText,
    limits: &Limits,
) -> Result<Assembled, TemplateError> {
    let mut assembler = Assembler { files, limits, unmatched: Vec::new(), including: Vec::new(), pasted: 0 };
    let source = assembler.expand(folder, text)?;
    Ok(Assembled { source, unmatched: assembler.unmatched })
}

struct Assembler<'a> {
    files: &'a dyn TrackFiles,
    limits: &'a Limits,
    unmatched: Vec<(String, Location)>,
    /// The files that are being pasted, from the outermost to the innermost.
    including: Vec<String>,
    /// Bytes read so far.
    pasted: usize,
}

impl Assembler<'_> {
    fn expand(&mut self, folder: &str, text: SourceText) -> Result<SourceText, TemplateError> {
        let mut rest = 0;
        // Where the rest begins.
        let mut here = text.locate(0);
        let mut out = SourceText::default();
        while let Some((whole, pattern)) = find_collect(text.as_str(), rest) {
            let location = here.after(&text.as_str()[rest..whole.start]);
            out.append(&text, rest..whole.start, here);
            here = location.after(&text.as_str()[whole.clone()]);
            self.paste(&mut out, &files::join(folder, &text.as_str()[pattern]), location)?;
            rest = whole.end;
        }
        if rest == 0 {
            return Ok(text);
        }
        out.append(&text, rest..text.as_str().len(), here);
        Ok(out)
    }

    fn paste(&mut self, out: &mut SourceText, pattern: &str, location: Location) -> Result<(), TemplateError> {
        let failed =
            |path: &str, source| TemplateError::Read { path: path.to_owned(), from: Some(location.clone()), source };
        let paths = files::expand_pattern(self.files, pattern).map_err(|source| failed(pattern, source))?;
        let mut any = false;
        for path in paths {
            let text = match files::read_text(self.files, &path) {
                Ok(text) => text,
                Err(error) if path == pattern && error.kind() == io::ErrorKind::NotFound => break,
                Err(source) => return Err(failed(&path, source)),
            };
            let name = files::normalize(&path);
            if self.including.contains(&name) {
                self.including.push(name);
                return Err(TemplateError::CollectsItself { chain: self.including.join(" → "), location });
            }
            self.pasted += text.len();
            if self.pasted > self.limits.output_bytes {
                return Err(TemplateError::TooLarge { limit: self.limits.output_bytes, location: Some(location) });
            }
            if any {
                out.append_generated(",\n", location.clone());
            }
            any = true;
            let text = SourceText::of_file(&name, text);
            self.including.push(name);
            let part = self.expand(files::folder_of(pattern), text)?;
            self.including.pop();
            out.append(&part, 0..part.as_str().len(), part.locate(0));
        }
        if !any {
            self.unmatched.push((pattern.to_owned(), location));
        }
        Ok(())
    }
}

/// Finds the next `{{ rally.collect(parts="...") }}` at or after `from`: the range of the whole, and of the pattern.
///
/// Only this very shape counts: double quotes, and at least one blank within each pair of braces.
fn find_collect(text: &str, from: usize) -> Option<(Range<usize>, Range<usize>)> {
    let mut search = from;
    while let Some(found) = memmem::find(&text.as_bytes()[search..], OPENING.as_bytes()) {
        let pattern_start = search + found + OPENING.len();
        search = pattern_start;
        let before = &text[from..pattern_start - OPENING.len()];
        let without_blanks = before.trim_end_matches(' ');
        if without_blanks.len() == before.len() || !without_blanks.ends_with("{{") {
            continue;
        }
        let line = text[pattern_start..].split('\n').next().unwrap_or_default();
        let Some((pattern, tail)) = end_of_pattern(line) else { continue };
        let whole = from + without_blanks.len() - 2..pattern_start + tail;
        return Some((whole, pattern_start..pattern_start + pattern));
    }
    None
}

/// Finds `") }}` after at least one character: where the pattern ends, and where the whole does.
fn end_of_pattern(line: &str) -> Option<(usize, usize)> {
    line.match_indices("\")").filter(|(at, _)| *at > 0).find_map(|(at, _)| {
        let rest = &line[at + 2..];
        let braces = rest.trim_start_matches(' ');
        (braces.len() < rest.len() && braces.starts_with("}}")).then(|| (at, line.len() - braces.len() + 2))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::track::files::MemoryFiles;

    fn assembled(files: &MemoryFiles, text: &str) -> Result<Assembled, TemplateError> {
        assemble(files, "", SourceText::of_file("track.json", text.to_owned()), &Limits::default())
    }

    #[test]
    fn only_the_exact_shape_is_collected() {
        let files = MemoryFiles::new().with("a.json", "A");
        for (text, expected) in [
            (r#"{{ rally.collect(parts="a.json") }}"#, "A"),
            (r#"x{{   rally.collect(parts="a.json")   }}y"#, "xAy"),
            (r#"{{{ rally.collect(parts="a.json") }}}"#, "{A}"),
            (r#"{# {{ rally.collect(parts="a.json") }} #}"#, "{# A #}"),
            (r#"{{ rally.collect(parts="none.json") }}"#, ""),
            (r#"{{rally.collect(parts="a.json") }}"#, r#"{{rally.collect(parts="a.json") }}"#),
            (r#"{{ rally.collect(parts="a.json")}}"#, r#"{{ rally.collect(parts="a.json")}}"#),
            (r#"{{ rally.collect(parts='a.json') }}"#, r#"{{ rally.collect(parts='a.json') }}"#),
            (r#"{{ rally.collect(parts="") }}"#, r#"{{ rally.collect(parts="") }}"#),
        ] {
            assert_eq!(assembled(&files, text).unwrap().source.as_str(), expected, "{text}");
        }
    }

    #[test]
    fn parts_are_sorted_joined_and_expanded_relative_to_their_own_folder() {
        let files = MemoryFiles::new()
            .with("challenges/b.json", "B")
            .with("challenges/a.json", r#"[{{ rally.collect(parts="common/*.json") }}]"#)
            .with("challenges/common/x.json", r#"{{ rally.collect(parts="../../shared.json") }}"#)
            .with("shared.json", "S");
        let result = assembled(&files, r#"{{ rally.collect(parts="challenges/*.json") }}"#).unwrap();
        assert_eq!(result.source.as_str(), "[S],\nB");
        assert_eq!(result.source.locate(1).file.as_ref(), "shared.json");
        assert_eq!(result.source.locate(5).to_string(), "challenges/b.json:1:1");
    }

    #[test]
    fn a_pattern_without_a_file_is_remembered() {
        let result = assembled(&MemoryFiles::new(), "\n{{ rally.collect(parts=\"ops/*.json\") }}").unwrap();
        assert_eq!(result.unmatched[0].0, "ops/*.json");
        assert_eq!(result.unmatched[0].1.to_string(), "track.json:2:1");
    }

    #[test]
    fn a_part_that_collects_itself_is_refused() {
        let files = MemoryFiles::new()
            .with("a.json", r#"{{ rally.collect(parts="b.json") }}"#)
            .with("b.json", r#"{{ rally.collect(parts="a.json") }}"#);
        let error = assembled(&files, r#"{{ rally.collect(parts="a.json") }}"#).unwrap_err();
        assert_eq!(error.to_string(), "b.json:1:1: `rally.collect` goes in a circle: a.json → b.json → a.json");
    }
}
