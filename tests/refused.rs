//! Programs on a RabbitMQ or Redis that refuses them: what they say, how they end, and that nothing but the cause need be mended.

use std::time::Duration;

use selvage_core::job::Priority;
use selvage_core::queue::rabbit::testing::Broker;
use selvage_tests::private::Private;
use selvage_tests::program::{Program, leaked_secrets};
use selvage_tests::services::Services;
use selvage_tests::{Client, Deployment, Settings, eventually, pictures};
use url::Url;

/// Longest time a start may take on a busy machine, whatever becomes of it.
const START_LIMIT: Duration = Duration::from_secs(60);
/// Longest time until a running fleet has noticed a change at the broker.
const NOTICE_LIMIT: Duration = Duration::from_secs(60);
/// A dependency refused us for good.
const UNAVAILABLE: i32 = 69;
/// Both are refused alike.
const PROGRAMS: [&str; 2] = ["selvage-gateway", "selvage-worker"];

type Environment = Vec<(&'static str, String)>;

/// What both programs are started with, on queues and keys of this test's own.
fn environment(amqp_url: String, redis_url: String) -> Environment {
    let prefix = format!("t{}", &uuid::Uuid::new_v4().simple().to_string()[..12]);
    vec![
        ("SELVAGE_LISTEN", "127.0.0.1:0".to_owned()),
        ("SELVAGE_OPS_LISTEN", "127.0.0.1:0".to_owned()),
        ("SELVAGE_AMQP_URL", amqp_url),
        ("SELVAGE_REDIS_URL", redis_url),
        ("SELVAGE_PREFIX", prefix),
        ("SELVAGE_SERVE", "fashion-mnist".to_owned()),
    ]
}

/// The same address for another user.
fn url_of(url: &str, user: &str, password: &str) -> String {
    let mut url = Url::parse(url).expect("a service's address is a URL");
    url.set_username(user).expect("it has a host");
    url.set_password(Some(password)).expect("it has a host");
    url.to_string()
}

/// The setting's value.
fn value<'e>(environment: &'e Environment, name: &str) -> &'e str {
    let found = environment.iter().find(|(setting, _)| *setting == name);
    &found.expect("it is set").1
}

/// A start that ends by itself, says so once and as an error, and names all this.
fn is_refused(name: &'static str, environment: &Environment, names: &[&str]) {
    let mut program = Program::start(name, environment);
    let status = program.wait_for_end(START_LIMIT);
    let log = program.log();
    assert_eq!(status.code(), Some(UNAVAILABLE), "{name}; its log:\n{log}");
    // Libraries may add lines of their own.
    let ours = |line: &&str| line.contains("\"ERROR\"") && line.contains("\"target\":\"selvage_");
    let errors: Vec<&str> = log.lines().filter(ours).collect();
    let [error] = errors[..] else {
        panic!("{name} should say one error; its log:\n{log}");
    };
    for word in names {
        assert!(error.contains(word), "{name} does not name {word}: {error}");
    }
    // Never for a moment had it offered to serve.
    assert!(!log.contains("listening on"), "{name}: {log}");
    assert!(!log.contains("consuming all queues"), "{name}: {log}");
    assert!(!log.contains("panicked"), "{name}: {log}");
}

/// Both programs, started again on what refused them before, answer a request together.
async fn serve(environment: &Environment) {
    let gateway = Program::start("selvage-gateway", environment);
    let worker = Program::start("selvage-worker", environment);
    let client = Client::new(gateway.address(START_LIMIT));
    let watched = Client::new(worker.address(START_LIMIT));
    for (name, program) in [("gateway", &client), ("worker", &watched)] {
        let ready = || async {
            let answer = program.get("/readyz").await.ok()?;
            (answer.status == 200).then_some(())
        };
        eventually(&format!("the {name} is ready"), START_LIMIT, ready).await;
    }
    let answer = client
        .post_image("/predict?wait=60", pictures::unique())
        .await;
    answer.expect("a gateway answers").expect(200);
}

fn nothing_leaked() {
    let leaked = leaked_secrets();
    assert!(leaked.is_empty(), "secrets stood in logs: {leaked:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_credentials_end_the_start_with_the_setting_and_not_the_password() {
    let services = Services::from_environment();
    let right = environment(services.amqp_url.clone(), services.redis_url);
    let wrong = |change: fn(&mut Url)| {
        let mut url = Url::parse(&services.amqp_url).expect("a service's address is a URL");
        change(&mut url);
        let mut wrong = right.clone();
        wrong.push(("SELVAGE_AMQP_URL", url.to_string()));
        wrong
    };
    let password = wrong(|url| url.set_password(Some("s3cret-and-wrong")).unwrap());
    let user = wrong(|url| url.set_username("nobody-known").unwrap());
    let host = wrong(|url| url.set_path("nowhere"));
    for name in PROGRAMS {
        is_refused(
            name,
            &password,
            &["--amqp-url / SELVAGE_AMQP_URL", "ACCESS_REFUSED"],
        );
        is_refused(
            name,
            &user,
            &["--amqp-url / SELVAGE_AMQP_URL", "ACCESS_REFUSED"],
        );
        is_refused(
            name,
            &host,
            &["--amqp-url / SELVAGE_AMQP_URL", "vhost", "nowhere"],
        );
    }
    serve(&right).await;
    nothing_leaked();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_with_other_arguments_ends_the_start_and_is_left_as_it_is() {
    let services = Services::from_environment();
    let settings = environment(services.amqp_url.clone(), services.redis_url);
    let url = services.amqp_url.parse().expect("a broker's address");
    let prefix = value(&settings, "SELVAGE_PREFIX").parse().unwrap();
    let model = "fashion-mnist".parse().unwrap();
    let broker = Broker::connect(&url, prefix, vec![model]).await.unwrap();
    let model = "fashion-mnist".parse().unwrap();
    let queues = Priority::ALL.map(|priority| broker.priority(&model, priority));
    for queue in queues.into_iter().chain([broker.dead()]) {
        // An earlier start got as far as this.
        broker.delete(&queue).await.unwrap();
        broker.declare_classic(&queue).await.unwrap();
        broker.publish(&queue, b"somebody else's").await.unwrap();
        for name in PROGRAMS {
            is_refused(
                name,
                &settings,
                &[
                    "--amqp-url / SELVAGE_AMQP_URL",
                    "PRECONDITION_FAILED",
                    &queue,
                ],
            );
        }
        let waiting = broker.waiting(&queue).await.unwrap();
        assert_eq!(waiting, Some(1), "{queue} is not ours to empty");
        broker.delete(&queue).await.unwrap();
    }
    serve(&settings).await;
    nothing_leaked();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rabbitmq_user_that_may_not_publish_ends_the_start() {
    let private = tokio::task::spawn_blocking(Private::start).await.unwrap();
    let services = private.services();
    let url = url_of(&services.amqp_url, "selvage", "s3cret-of-selvage");
    let mut settings = environment(url, services.redis_url);
    settings.push(("SELVAGE_PREFIX", "selvage".to_owned()));
    let own = r"^selvage\..*";
    let allow = |write: &str| {
        let rights = ["set_permissions", "-p", "/", "selvage", own, write, own];
        tokio::task::block_in_place(|| private.rabbitmqctl(&rights));
    };
    tokio::task::block_in_place(|| {
        private.rabbitmqctl(&["add_user", "selvage", "s3cret-of-selvage"]);
    });
    allow(own);
    for name in PROGRAMS {
        is_refused(
            name,
            &settings,
            &[
                "--amqp-url / SELVAGE_AMQP_URL",
                "ACCESS_REFUSED",
                "amq.default",
            ],
        );
    }
    allow(r"^(selvage\..*|amq\.default)$");
    serve(&settings).await;
    nothing_leaked();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_cannot_hold_records_ends_the_start() {
    let private = tokio::task::spawn_blocking(Private::start).await.unwrap();
    let services = private.services();
    let url = url_of(&services.redis_url, "selvage", "s3cret-of-selvage");
    let settings = environment(services.amqp_url, url);
    let redis = |command: &[&str]| assert_eq!(private.redis(command), "OK", "{command:?}");
    redis(&[
        "ACL",
        "SETUSER",
        "selvage",
        "on",
        ">s3cret-of-selvage",
        "~*",
        "+@all",
    ]);
    let policy = |policy: &str| {
        redis(&[
            "CONFIG",
            "SET",
            "maxmemory",
            "1gb",
            "maxmemory-policy",
            policy,
        ]);
    };
    policy("allkeys-lru");
    for name in PROGRAMS {
        let words = ["SELVAGE_REDIS_URL", "`allkeys-lru`", "`noeviction`"];
        is_refused(name, &settings, &words);
    }
    policy("noeviction");
    redis(&["ACL", "SETUSER", "selvage", "-zadd"]);
    for name in PROGRAMS {
        let words = ["SELVAGE_REDIS_URL", "`ZADD`", "ACL SETUSER"];
        is_refused(name, &settings, &words);
    }
    redis(&["ACL", "SETUSER", "selvage", "+zadd"]);
    serve(&settings).await;
    nothing_leaked();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_fleet_outlives_a_password_that_was_changed() {
    let private = tokio::task::spawn_blocking(Private::start).await.unwrap();
    let services = private.services();
    let url = Url::parse(&services.amqp_url).expect("a service's address is a URL");
    let (user, password) = (
        url.username().to_owned(),
        url.password().unwrap().to_owned(),
    );
    let fleet = Deployment::start_on(Some(services), Settings::default()).await;
    let pids = || {
        let of = |programs: &mut Vec<Program>| programs.iter().map(Program::pid).collect();
        let (gateways, workers): (Vec<u32>, Vec<u32>) =
            (fleet.with_gateways(of), fleet.with_workers(of));
        [gateways, workers].concat()
    };
    let before = pids();

    tokio::task::block_in_place(|| {
        private.rabbitmqctl(&["change_password", &user, "s3cret-and-new"]);
        private.rabbitmqctl(&["close_all_connections", "a new password"]);
    });
    let client = fleet.client();
    eventually("the gateway is not ready", NOTICE_LIMIT, || async {
        let answer = client.get("/readyz").await.ok()?;
        (answer.status == 503).then_some(())
    })
    .await;
    let said = || {
        let refused = |programs: &mut Vec<Program>| {
            let mut logs = programs.iter().map(Program::log);
            logs.all(|log| {
                log.contains("no connection to RabbitMQ") && log.contains("ACCESS_REFUSED")
            })
        };
        fleet.with_gateways(refused) && fleet.with_workers(refused)
    };
    eventually("every program says why", NOTICE_LIMIT, || async {
        said().then_some(())
    })
    .await;
    let refused = client.post_image("/predict", pictures::unique()).await;
    let refused = refused.expect("a gateway answers");
    assert!(!refused.header("retry-after").is_empty());
    refused.expect_problem(503, "broker_unavailable");

    tokio::task::block_in_place(|| {
        private.rabbitmqctl(&["change_password", &user, &password]);
    });
    for gateway in 0..fleet.gateways.len() {
        let client = fleet.client_of(gateway);
        eventually("a gateway serves again", NOTICE_LIMIT, || async {
            let path = "/predict?wait=5";
            let answer = client.post_image(path, pictures::unique()).await.ok()?;
            (answer.status == 200).then_some(())
        })
        .await;
    }
    assert_eq!(pids(), before, "nothing was restarted");
    let alive = |programs: &mut Vec<Program>| programs.iter_mut().all(Program::is_alive);
    assert!(fleet.with_gateways(alive) && fleet.with_workers(alive));
    nothing_leaked();
}
