//! `selvage predict`: sends images, several at a time, and prints the result of each.

mod image;

use std::sync::OnceLock;

use futures_util::stream::{self, StreamExt as _};

use self::image::Asking;
use crate::arguments::Predict;
use crate::client::Client;
use crate::console::Console;
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::images::{self, Image};
use crate::output::{List, Predicted};

/// Classifies all images; a bad image does not affect the others.
pub(crate) async fn run(asked: &Predict, context: &Context) -> Result<Exit, Failure> {
    let images = images::all(&asked.images)?;
    let context = Context {
        console: context.console.with_bar(images.len()),
        ..context.clone()
    };
    let console = &context.console;
    let client = Client::new(&asked.server, console)?;
    let asking = Asking {
        asked,
        client: &client,
        context: &context,
    };
    // Why the remaining images are not sent.
    let given_up = OnceLock::new();
    let total = images.len();
    let results = images
        .into_iter()
        .map(|image| one(&asking, image, &given_up));
    let mut results = stream::iter(results).buffered(asked.concurrency.into());
    let top = asked.top.unwrap_or(1).into();
    let mut output = List::new(asked.output.format());
    let mut count = Count::default();
    while let Some(predicted) = results.next().await {
        count.take(&predicted, console);
        console.step();
        output.add(&predicted, predicted.rows(top))?;
    }
    console.clear();
    output.end()?;
    if total > 1 && count.failed + count.not_sent > 0 {
        console.note(format_args!("{count} of {total} images"));
    }
    Ok(count.exit)
}

async fn one(asking: &Asking<'_>, image: Image, given_up: &OnceLock<Exit>) -> Predicted {
    let name = image.name();
    let result = match given_up.get() {
        Some(why) => Err(Failure::NotSent(*why)),
        None if asking.context.interrupt.has_come() => Err(Failure::NotSent(Exit::Interrupted)),
        None => asking.predict(&image, &name).await,
    };
    if let Err(failure) = &result
        && failure.is_lasting()
    {
        given_up.get_or_init(|| failure.exit());
    }
    Predicted {
        image: name,
        result,
    }
}

/// What became of all images.
#[derive(Debug)]
struct Count {
    failed: usize,
    not_sent: usize,
    exit: Exit,
}

impl Default for Count {
    fn default() -> Self {
        Self {
            failed: 0,
            not_sent: 0,
            exit: Exit::Success,
        }
    }
}

impl Count {
    /// Counts a result, and prints why it is a failure.
    fn take(&mut self, predicted: &Predicted, console: &Console) {
        let topic = console.about(&predicted.image);
        let (exit, count) = match &predicted.result {
            Ok(job) if !job.is_lost() => return,
            Ok(job) => {
                topic.say(job.reason());
                (Exit::Failed, &mut self.failed)
            }
            Err(Failure::NotSent(why)) => (*why, &mut self.not_sent),
            Err(failure) => {
                topic.say(failure);
                (failure.exit(), &mut self.failed)
            }
        };
        *count += 1;
        self.exit = self.exit.max(exit);
    }
}

impl std::fmt::Display for Count {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} failed", self.failed)?;
        if self.not_sent > 0 {
            write!(f, " and {} not sent", self.not_sent)?;
        }
        Ok(())
    }
}
