//! The list of tests in a browser: what each is called, where it runs, and the deployment it needs.

mod docs;
mod fleet;
mod home;
mod jobs;
mod looks;
mod rules;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use selvage_tests::driver::Driver;
use selvage_tests::{Deployment, Settings, Shape};

type Run = fn(Arc<Deployment>, Arc<Driver>) -> Pin<Box<dyn Future<Output = anyhow::Result<()>>>>;

/// One behaviour of a page.
#[derive(Clone, Copy)]
pub(crate) struct Test {
    /// Module and function.
    pub(crate) name: &'static str,
    /// Where it is run.
    pub(crate) shapes: &'static [Shape],
    /// The deployment it is run on.
    pub(crate) settings: fn() -> Settings,
    /// The behaviour.
    pub(crate) run: Run,
}

macro_rules! tests {
    ($($module:ident::$name:ident on $($shape:ident),+ $(with $settings:expr)?;)*) => {
        vec![$(Test {
            name: concat!(stringify!($module), "::", stringify!($name)),
            shapes: &[$(Shape::$shape),+],
            settings: tests!(@settings $($settings)?),
            run: |deployment, driver| Box::pin($module::$name(deployment, driver)),
        }),*]
    };
    (@settings) => { Settings::default };
    (@settings $settings:expr) => { $settings };
}

/// A fleet in which nobody works.
fn idle() -> Settings {
    Settings::default().workers(0)
}

/// The models of `tests/fixtures/make_tasks.py`.
fn every_task() -> Settings {
    let models = selvage_tests::program::project().join("tests/fixtures/tasks");
    Settings::default().with("SELVAGE_MODELS", models.display())
}

/// Every test.
pub(crate) fn all() -> Vec<Test> {
    tests! {
        home::a_sample_is_answered on Embedded, Fleet;
        home::pictures_come_by_drop_paste_and_choice on Embedded;
        home::many_pictures_become_a_table_and_its_files on Embedded;
        home::boxes_and_vectors_are_shown on Embedded with every_task;
        home::errors_are_sentences on Embedded;
        home::the_keyboard_is_enough on Embedded;
        home::a_key_is_asked_for_where_one_is_needed on Embedded with selvage_tests::keys::guarded;
        jobs::a_job_survives_a_reload on Fleet with idle;
        jobs::what_waits_can_be_canceled on Fleet with idle;
        jobs::a_full_queue_is_waited_out on Fleet with || idle().with("SELVAGE_MAX_IN_FLIGHT", 1);
        fleet::workers_come_and_go_before_ones_eyes on Fleet;
        fleet::one_process_is_shown_too on Embedded;
        fleet::a_killed_broker_is_said_plainly on Fleet with idle;
        fleet::a_gateway_that_is_gone_is_said_plainly on Embedded;
        looks::phones_and_darkness on Embedded;
        looks::nothing_bars_people on Embedded;
        docs::every_operation_is_shown_and_can_be_tried on Embedded, Fleet;
        rules::a_page_that_breaks_the_rules_is_caught on Embedded;
    }
}
