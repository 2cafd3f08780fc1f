//! Starts that must fail: at once, with a sentence that names the setting or the file, and the right exit code.

use std::fs;
use std::io::ErrorKind;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use selvage_tests::program::{Program, project};

/// Longest time a start that fails may take on a busy machine; the limit is two seconds on an idle one.
const END_LIMIT: Duration = Duration::from_secs(20);

const USAGE: i32 = 64;
const UNAVAILABLE: i32 = 69;

fn fails_with(name: &'static str, settings: &[(&str, &str)], code: i32, names: &[&str]) {
    let settings: Vec<_> = settings
        .iter()
        .map(|(name, value)| (*name, (*value).to_owned()))
        .collect();
    let mut program = Program::start(name, &settings);
    let status = program.wait_for_end(END_LIMIT);
    let log = program.log();
    assert_eq!(
        status.code(),
        Some(code),
        "{name} with {settings:?}; its log:\n{log}"
    );
    for word in names {
        assert!(
            log.contains(word),
            "{name} with {settings:?} does not name {word}; its log:\n{log}"
        );
    }
    assert!(!log.contains("panicked"), "{log}");
}

#[test]
fn wrong_settings_are_named() {
    fails_with(
        "selvage-gateway",
        &[("SELVAGE_LISTEN", "nowhere")],
        USAGE,
        &["SELVAGE_LISTEN", "listen"],
    );
    fails_with(
        "selvage-gateway",
        &[("SELVAGE_MAX_BODY", "100000000")],
        USAGE,
        &["max-body"],
    );
    fails_with(
        "selvage-gateway",
        &[("SELVAGE_AMQP_URL", "http://x")],
        USAGE,
        &["amqp-url"],
    );
    fails_with(
        "selvage-gateway",
        &[("SELVAGE_AMQP_URL", "amqp://u@h:1")],
        USAGE,
        &["SELVAGE_REDIS_URL"],
    );
    fails_with(
        "selvage-gateway",
        &[("SELVAGE_REDIS_URL", "redis://h:1")],
        USAGE,
        &["SELVAGE_AMQP_URL"],
    );
    fails_with(
        "selvage-gateway",
        &[("SELVAGE_PREFIX", "no dots.")],
        USAGE,
        &["prefix"],
    );
    let keys = project().join("tests/fixtures/api-keys");
    fails_with(
        "selvage-gateway",
        &[("SELVAGE_API_KEYS", &format!("{}-absent", keys.display()))],
        USAGE,
        &["SELVAGE_API_KEYS", "api-keys-absent"],
    );
    let guest = [
        ("SELVAGE_AMQP_URL", "amqp://guest:guest@mq.example"),
        ("SELVAGE_REDIS_URL", "redis://h:1"),
    ];
    for program in ["selvage-gateway", "selvage-worker"] {
        let words = ["SELVAGE_AMQP_URL", "guest", "SELVAGE_ALLOW_GUEST"];
        fails_with(program, &guest, USAGE, &words);
    }
    fails_with("selvage-worker", &[], USAGE, &["SELVAGE_AMQP_URL"]);
    fails_with(
        "selvage-worker",
        &[("SELVAGE_LOG", "=[")],
        USAGE,
        &["SELVAGE_LOG"],
    );
}

/// A broker and a Redis that take connections and say nothing, so that a start waits for them; and the settings that name them.
fn silent_services() -> ([TcpListener; 2], [(&'static str, String); 2]) {
    let services = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("a port is free"));
    let [broker, redis] = services
        .each_ref()
        .map(|service| service.local_addr().expect("it listens"));
    let settings = [
        ("SELVAGE_AMQP_URL", format!("amqp://u:p@{broker}")),
        ("SELVAGE_REDIS_URL", format!("redis://{redis}")),
    ];
    (services, settings)
}

fn until_logged(program: &Program, words: &str) {
    let began = Instant::now();
    while !program.log().contains(words) {
        assert!(began.elapsed() < END_LIMIT, "{}", program.log());
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// What a program logs when its settings are read.
const ANNOUNCED: &str = concat!(" ", env!("CARGO_PKG_VERSION"));

/// An orchestrator that stops a program kills it if it does not end, whatever it waits for.
#[test]
fn a_start_that_is_asked_to_stop_ends_there() {
    let (_services, silent) = silent_services();
    let listen = ("SELVAGE_LISTEN", "127.0.0.1:0".to_owned());
    for (name, settings, last, never) in [
        ("selvage-worker", &silent[..], ANNOUNCED, "model loaded"),
        (
            "selvage-gateway",
            &[&silent[..], std::slice::from_ref(&listen)].concat(),
            ANNOUNCED,
            "listening on",
        ),
        (
            "selvage-gateway",
            std::slice::from_ref(&listen),
            "embedded: ",
            "listening on",
        ),
    ] {
        let mut program = Program::start(name, settings);
        until_logged(&program, last);
        program.signal("TERM");
        let status = program.wait_for_end(END_LIMIT);
        let log = program.log();
        assert_eq!(status.code(), Some(0), "{name} ended with {status}:\n{log}");
        assert!(
            !log.contains(never),
            "{name} went on with its start:\n{log}"
        );
    }
}

/// A port that is open and silent looks like a program that hangs.
#[test]
fn connections_are_refused_until_they_are_answered() {
    let (_services, settings) = silent_services();
    for (name, listen) in [
        ("selvage-gateway", "SELVAGE_LISTEN"),
        ("selvage-gateway", "SELVAGE_OPS_LISTEN"),
        ("selvage-worker", "SELVAGE_OPS_LISTEN"),
    ] {
        let free = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = free.local_addr().expect("it listens");
        drop(free);
        let own = [
            ("SELVAGE_LISTEN", "127.0.0.1:0".to_owned()),
            (listen, address.to_string()),
        ];
        let program = Program::start(name, &[&settings[..], &own].concat());
        until_logged(&program, ANNOUNCED);
        let refused = TcpStream::connect(address).map(drop);
        let refused = refused.expect_err("nobody answers yet").kind();
        assert_eq!(refused, ErrorKind::ConnectionRefused, "{name}");
    }
}

#[test]
fn passwords_in_wrong_settings_are_not_repeated() {
    let settings = [(
        "SELVAGE_AMQP_URL".to_owned(),
        "http://ann:s3cret@h".to_owned(),
    )];
    let settings: Vec<_> = settings
        .iter()
        .map(|(name, value)| (name.as_str(), value.clone()))
        .collect();
    let mut program = Program::start("selvage-gateway", &settings);
    program.wait_for_end(END_LIMIT);
    assert!(!program.log().contains("s3cret"), "{}", program.log());
}

#[test]
fn a_key_in_the_file_of_hashes_is_named_by_its_line_and_not_repeated() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys");
    fs::write(&file, "# keys\nacme selvage_s3cret\n").unwrap();
    let file = file.display().to_string();
    let mut program = Program::start("selvage-gateway", &[("SELVAGE_API_KEYS", file.clone())]);
    assert_eq!(program.wait_for_end(END_LIMIT).code(), Some(USAGE));
    let log = program.log();
    let expected = format!("{file}, line 2: ");
    assert!(
        log.contains(&expected) && log.contains("SELVAGE_API_KEYS"),
        "{log}"
    );
    assert!(!log.contains("s3cret"), "{log}");
}

#[test]
fn a_missing_or_wrong_runtime_library_is_one_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("libonnxruntime.so");
    fs::write(&text, "no library").unwrap();
    let absent = folder.path().join("absent.so");
    for library in [text, absent] {
        let library = library.display().to_string();
        fails_with(
            "selvage-gateway",
            &[
                ("ORT_DYLIB_PATH", &library),
                ("SELVAGE_LISTEN", "127.0.0.1:0"),
            ],
            UNAVAILABLE,
            &[&library],
        );
    }
}

/// The library that the tests run on is built for the CPU alone.
#[test]
fn a_device_that_cannot_be_had_is_one_sentence() {
    let listen = ("SELVAGE_LISTEN", "127.0.0.1:0");
    let (cuda, tensorrt) = (("SELVAGE_DEVICE", "cuda:1"), ("SELVAGE_DEVICE", "tensorrt"));
    let wheel = "onnxruntime-gpu";
    fails_with(
        "selvage-gateway",
        &[listen, cuda],
        UNAVAILABLE,
        &["cuda:1", wheel],
    );
    fails_with(
        "selvage-gateway",
        &[listen, tensorrt],
        UNAVAILABLE,
        &["tensorrt:0", wheel],
    );
    let absent = project().join("absent.so").display().to_string();
    let plugin = ("SELVAGE_EP_LIBRARY", absent.as_str());
    let openvino = ("SELVAGE_DEVICE", "openvino");
    fails_with(
        "selvage-gateway",
        &[listen, openvino, plugin],
        UNAVAILABLE,
        &["SELVAGE_EP_LIBRARY", &absent],
    );
    let unknown = ("SELVAGE_DEVICE", "gpu");
    fails_with(
        "selvage-worker",
        &[unknown],
        USAGE,
        &["`gpu` is not a device", "openvino"],
    );
}

/// The plugin of OpenVINO is for these processors only.
#[cfg(target_arch = "x86_64")]
#[test]
fn a_model_that_its_device_leaves_to_the_cpu_is_refused_if_that_is_wanted() {
    let models = project().join("tests/fixtures/variants/partly-for-the-cpu");
    let plugin = selvage_tests::openvino::plugin();
    fails_with(
        "selvage-gateway",
        &[
            ("SELVAGE_LISTEN", "127.0.0.1:0"),
            ("SELVAGE_MODELS", &models.display().to_string()),
            ("SELVAGE_DEVICE", "openvino"),
            ("SELVAGE_DEVICE_STRICT", "true"),
            ("SELVAGE_EP_LIBRARY", &plugin.display().to_string()),
        ],
        USAGE,
        &["model.onnx", "device_strict", "CDist (1)"],
    );
}

#[test]
fn a_wrong_model_names_its_file_and_field() {
    let fixtures = project().join("tests/fixtures/broken-models");
    let mut seen = 0;
    for entry in
        fs::read_dir(&fixtures).expect("tests/fixtures/broken-models is part of the project")
    {
        let broken = entry.unwrap().path();
        let folder = tempfile::tempdir().unwrap();
        copy(&broken, &folder.path().join("broken"));
        let expected = fs::read_to_string(broken.join("expected.txt")).unwrap();
        let words: Vec<&str> = expected.lines().filter(|line| !line.is_empty()).collect();
        let models = folder.path().display().to_string();
        fails_with(
            "selvage-gateway",
            &[
                ("SELVAGE_MODELS", &models),
                ("SELVAGE_LISTEN", "127.0.0.1:0"),
            ],
            USAGE,
            &words,
        );
        seen += 1;
    }
    assert!(seen >= 4, "{seen} broken models");
    fails_with(
        "selvage-gateway",
        &[("SELVAGE_MODELS", "/nonexistent")],
        USAGE,
        &["/nonexistent"],
    );
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[test]
fn a_port_in_use_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    fails_with(
        "selvage-gateway",
        &[("SELVAGE_LISTEN", &address)],
        USAGE,
        &["SELVAGE_LISTEN", &address],
    );
    fails_with(
        "selvage-gateway",
        &[
            ("SELVAGE_LISTEN", "127.0.0.1:0"),
            ("SELVAGE_OPS_LISTEN", &address),
        ],
        USAGE,
        &["SELVAGE_OPS_LISTEN", &address],
    );
}

#[test]
fn help_is_the_manual() {
    for (name, settings) in [
        (
            "selvage-gateway",
            &[
                "SELVAGE_LISTEN",
                "SELVAGE_AMQP_URL",
                "SELVAGE_MODELS",
                "SELVAGE_MAX_BODY",
            ][..],
        ),
        (
            "selvage-worker",
            &["SELVAGE_OPS_LISTEN", "SELVAGE_SESSIONS", "ORT_DYLIB_PATH"][..],
        ),
    ] {
        let output = std::process::Command::new(selvage_tests::program::binary(name))
            .arg("--help")
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success());
        for setting in settings {
            assert!(
                text.contains(setting),
                "{name} --help does not mention {setting}"
            );
        }
    }
}
