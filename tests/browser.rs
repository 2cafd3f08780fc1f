//! Runs the pages in a real browser, on each shape a test applies to. The tests are in `pages/`; nothing is tested here.

mod pages;

use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Failed, Trial};
use pages::Test;
use selvage_tests::driver::Driver;
use selvage_tests::{Deployment, Shape};
use tokio::runtime::Runtime;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // A browser is several busy processes.
    arguments.test_threads = arguments.test_threads.or(Some(2));
    let runtime = Arc::new(Runtime::new().expect("a runtime can be made"));
    let driver = (!arguments.list).then(Driver::start).map(Arc::new);
    let pairs = pages::all()
        .into_iter()
        .flat_map(|test| test.shapes.iter().map(move |shape| (test, *shape)));
    let trials = pairs
        .map(|(test, shape)| trial(test, shape, &runtime, driver.as_ref()))
        .collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    drop(driver);
    conclusion.exit_code()
}

fn trial(test: Test, shape: Shape, runtime: &Arc<Runtime>, driver: Option<&Arc<Driver>>) -> Trial {
    let (runtime, driver) = (Arc::clone(runtime), driver.map(Arc::clone));
    let name = format!("{}::{}", shape.as_str(), test.name);
    Trial::test(name, move || {
        let driver = driver.ok_or("there is no browser while tests are only listed")?;
        runtime.block_on(async {
            let deployment = Deployment::start(shape, (test.settings)()).await;
            (test.run)(Arc::new(deployment), driver)
                .await
                .map_err(|error| Failed::from(format!("{error:#}")))
        })
    })
}
