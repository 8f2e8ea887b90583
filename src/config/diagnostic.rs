//! Mistakes as people read them: `file:line:column`, the source line, what is wrong, what would be right.

use annotate_snippets::{Annotation, AnnotationKind, Level, Renderer, Snippet};

use super::sources::{Line, Sources};
use crate::settings::{Mistake, Place};

/// All mistakes, in the order of the files, with a line at the end that counts them.
///
/// `colour` asks for terminal colours. Values from the environment, from `!file` and of secret keys are not shown.
pub fn render(sources: &Sources, mistakes: &[Mistake], colour: bool) -> String {
    let mut mistakes: Vec<&Mistake> = mistakes.iter().collect();
    mistakes.sort_by_key(|mistake| (mistake.place.file, mistake.place.start, mistake.place.end));
    mistakes.dedup();
    let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
    let mut out = String::new();
    for mistake in &mistakes {
        let primary = Shown::new(sources, mistake.place);
        let related = mistake.related.as_ref().and_then(|(place, label)| Some((Shown::new(sources, *place)?, label)));
        let mut columns = Vec::new();
        let mut snippets = Vec::new();
        if let Some(primary) = primary {
            let mut snippet = primary.snippet().annotation(AnnotationKind::Primary.span(primary.line.span.clone()));
            columns.push(primary.columns());
            if let Some((related, label)) = related {
                let annotation = AnnotationKind::Context.span(related.line.span.clone()).label(label.as_str());
                if (&related.path, related.line.number) == (&primary.path, primary.line.number) {
                    snippet = snippet.annotation(annotation);
                } else {
                    columns.push(related.columns());
                    snippets.push(related.snippet().annotation(annotation));
                }
            }
            snippets.insert(0, snippet);
        }
        let mut group = Level::ERROR.primary_title(sources.redact(&mistake.message)).elements(snippets);
        if let Some(help) = &mistake.help {
            group = group.element(Level::HELP.message(sources.redact(help)));
        }
        let mut rendered = renderer.render(&[group]);
        for (shown, right) in columns {
            rendered = rendered.replacen(&shown, &right, 1);
        }
        out.push_str(&rendered);
        out.push_str("\n\n");
    }
    let count = match mistakes.len() {
        1 => "1 mistake".to_string(),
        count => format!("{count} mistakes"),
    };
    out.push_str(&format!("{count} in the configuration\n"));
    out
}

/// The line of a mistake.
struct Shown {
    path: String,
    line: Line,
}

impl Shown {
    fn new(sources: &Sources, place: Place) -> Option<Self> {
        let path = sources.files.get(place.file as usize)?.path.display().to_string();
        Some(Self { path, line: sources.line(place)? })
    }

    fn snippet<'a>(&self) -> Snippet<'a, Annotation<'a>> {
        Snippet::source(self.line.text.clone()).line_start(self.line.number).path(self.path.clone())
    }

    /// Its `file:line:column` as the renderer counts it and as it is: a mask before it moves the column.
    fn columns(&self) -> (String, String) {
        let Self { path, line } = self;
        let shown = line.text[..line.span.start].chars().count() + 1;
        (format!("{path}:{}:{shown}", line.number), format!("{path}:{}:{}", line.number, line.column))
    }
}
