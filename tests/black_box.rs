//! Runs every scenario on each shape it applies to. The scenarios are in `scenarios/`; nothing is tested here.

mod scenarios;

use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Failed, Trial};
use scenarios::Scenario;
use selvage_tests::program::leaked_secrets;
use selvage_tests::{Deployment, Settings, Shape};
use tokio::runtime::Runtime;
use tokio::sync::OnceCell;

/// The plain deployments, one per shape, shared by all scenarios that need no settings of their own.
#[derive(Default)]
struct Plain {
    embedded: OnceCell<Arc<Deployment>>,
    fleet: OnceCell<Arc<Deployment>>,
}

impl Plain {
    async fn get(&self, shape: Shape) -> Arc<Deployment> {
        let cell = match shape {
            Shape::Embedded => &self.embedded,
            Shape::Fleet => &self.fleet,
        };
        let start = || async { Arc::new(Deployment::start(shape, Settings::default()).await) };
        Arc::clone(cell.get_or_init(start).await)
    }
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Each trial may start processes of its own; more at once than this only compete for the cores.
    arguments.test_threads = arguments.test_threads.or(Some(4));
    let runtime = Arc::new(Runtime::new().expect("a runtime can be made"));
    let plain = Arc::new(Plain::default());
    let pairs = scenarios::all()
        .into_iter()
        .flat_map(|s| s.shapes.iter().map(move |shape| (s, *shape)));
    let trials = pairs
        .map(|(scenario, shape)| trial(scenario, shape, &runtime, &plain))
        .collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    // The shared deployments end here, while there is still a runtime, and not whenever statics would.
    drop(plain);
    let leaked = leaked_secrets();
    if !leaked.is_empty() {
        eprintln!("secrets stood in logs:\n{}", leaked.join("\n"));
        return ExitCode::FAILURE;
    }
    conclusion.exit_code()
}

fn trial(scenario: Scenario, shape: Shape, runtime: &Arc<Runtime>, plain: &Arc<Plain>) -> Trial {
    let (runtime, plain) = (Arc::clone(runtime), Arc::clone(plain));
    let name = format!("{}::{}", shape.as_str(), scenario.name);
    Trial::test(name, move || {
        runtime.block_on(async {
            let deployment = match scenario.settings {
                Some(settings) => Arc::new(Deployment::start(shape, settings()).await),
                None => plain.get(shape).await,
            };
            (scenario.run)(deployment)
                .await
                .map_err(|error| Failed::from(format!("{error:#}")))
        })
    })
}
