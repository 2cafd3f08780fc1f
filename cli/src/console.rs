//! Progress on standard error: lines, and a bar where a person looks at many images. Results go elsewhere.

use std::fmt::Display;
use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// Fewer images than this need no bar.
const MANY: usize = 3;
const BAR: &str = "{bar:30} {pos} of {len}, {eta} left  {wide_msg}";
/// How often the bar is drawn where nothing happens.
const TICK: Duration = Duration::from_millis(500);

/// Standard error.
#[derive(Clone, Debug)]
pub(crate) struct Console {
    bar: Option<ProgressBar>,
    /// Errors only.
    is_quiet: bool,
}

impl Console {
    /// Without a bar.
    pub(crate) const fn new(is_quiet: bool) -> Self {
        let bar = None;
        Self { bar, is_quiet }
    }

    /// With a bar for so many images, if they are many and standard error is a terminal.
    pub(crate) fn with_bar(&self, count: usize) -> Self {
        if count < MANY || self.is_quiet || !io::stderr().is_terminal() {
            return self.clone();
        }
        let bar = ProgressBar::new(count as u64);
        if let Ok(style) = ProgressStyle::with_template(BAR) {
            bar.set_style(style);
        }
        bar.enable_steady_tick(TICK);
        Self {
            bar: Some(bar),
            is_quiet: false,
        }
    }

    /// Prints a line: an error, or what the user has to know.
    pub(crate) fn say(&self, what: impl Display) {
        let line = format!("selvage: {}", printable(&what.to_string()));
        match &self.bar {
            // A bar that is finished prints no line end.
            Some(bar) if !bar.is_finished() => bar.println(line),
            // Standard error may be closed.
            Some(_) | None => drop(writeln!(io::stderr(), "{line}")),
        }
    }

    /// Prints a line of progress, unless the console is quiet.
    pub(crate) fn note(&self, what: impl Display) {
        if !self.is_quiet {
            self.say(what);
        }
    }

    /// Shows what matters only for a moment: beside the bar, else as a line of progress.
    pub(crate) fn mention(&self, what: impl Display) {
        match &self.bar {
            Some(bar) => bar.set_message(printable(&what.to_string())),
            None => self.note(what),
        }
    }

    /// Counts one more image as done.
    pub(crate) fn step(&self) {
        if let Some(bar) = &self.bar {
            bar.inc(1);
        }
    }

    /// Removes the bar.
    pub(crate) fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    /// This console, for the progress of one image or job.
    pub(crate) const fn about<'a>(&'a self, name: &'a str) -> Topic<'a> {
        Topic {
            console: self,
            name,
        }
    }
}

/// The progress of one image or job.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Topic<'a> {
    console: &'a Console,
    name: &'a str,
}

impl Topic<'_> {
    pub(crate) fn say(&self, what: impl Display) {
        self.console.say(format_args!("{}: {what}", self.name));
    }

    pub(crate) fn note(&self, what: impl Display) {
        self.console.note(format_args!("{}: {what}", self.name));
    }

    pub(crate) fn mention(&self, what: impl Display) {
        self.console.mention(format_args!("{}: {what}", self.name));
    }
}

/// Text from elsewhere, without control characters, which could move a terminal's cursor.
pub(crate) fn printable(text: &str) -> String {
    let plain = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    text.chars().map(plain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_command_a_terminal() {
        assert_eq!(printable("a\x1b[2Jé\n.png"), "a\u{fffd}[2Jé\u{fffd}.png");
    }
}
