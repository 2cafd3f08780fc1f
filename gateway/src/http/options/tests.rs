//! What requests may ask for, in each form.

use super::*;

fn from_query(text: &str) -> Result<Options, ApiError> {
    let uri = format!("/predict?{text}").parse().unwrap();
    let mut reader = Reader::default();
    reader.take_query(&Query::of(&uri)?)?;
    Ok(reader.finish())
}

fn from_json(name: &str, raw: &str) -> Result<Options, ApiError> {
    let mut reader = Reader::default();
    reader.take(ParameterSource::Body, name, ParameterValue::Json(raw))?;
    Ok(reader.finish())
}

#[test]
fn query_parameters_become_options() {
    let options = from_query(
        "model=tiny&version=2&top_k=5&timeout_ms=1500&wait=0.25&metadata=%7B%22a%22:1%7D",
    )
    .unwrap();
    let expected = Options {
        model: Some("tiny".to_owned()),
        version: Some("2".to_owned()),
        top_k: 5,
        timeout: Some(Duration::from_millis(1500)),
        wait: Some(Duration::from_millis(250)),
        metadata: serde_json::from_str(r#"{"a":1}"#).unwrap(),
        webhook: None,
    };
    assert_eq!(options, expected);
    assert_eq!(from_query("").unwrap(), Options::default());
}

#[test]
fn wrong_query_parameters_are_named() {
    let cases = [
        ("top_k=0", "?top_k"),
        ("top_k=-1", "?top_k"),
        ("top_k=1001", "?top_k"),
        ("top_k=1000000000", "?top_k"),
        ("top_k=three", "?top_k"),
        ("top_k=", "?top_k"),
        ("top_k=%2B3", "?top_k"),
        ("timeout_ms=0", "?timeout_ms"),
        ("timeout_ms=1e999", "?timeout_ms"),
        ("wait=-1", "?wait"),
        ("wait=abc", "?wait"),
        ("wait=NaN", "?wait"),
        ("wait=inf", "?wait"),
        ("wait=", "?wait"),
        ("wait=-1e-3", "?wait"),
        ("wait=1&wait=2", "?wait"),
        ("metadata=[]", "?metadata"),
        ("metadata=%7B", "?metadata"),
        ("surprise=1", "?surprise"),
        ("image=abc", "?image"),
        ("webhook=x", "?webhook"),
    ];
    for (query, pointer) in cases {
        let response = from_query(query).unwrap_err();
        assert!(
            response.to_string().contains(pointer),
            "{query}: {response}"
        );
    }
}

#[test]
fn numbers_are_bounded_and_named() {
    let read = |text: &str| {
        let uri = format!("/x?{text}").parse().unwrap();
        let query = Query::of(&uri)?.only(&["limit", "offset"])?;
        Ok::<_, ApiError>([
            query.number("limit", 1..=9)?,
            query.number("offset", 0..=99)?,
        ])
    };
    assert_eq!(read("").unwrap(), [None, None]);
    assert_eq!(read("offset=7&limit=9").unwrap(), [Some(9), Some(7)]);
    for bad in [
        "limit=0",
        "limit=10",
        "limit=-1",
        "limit=",
        "limit=1&limit=1",
        "offset=x",
    ] {
        let pointer = &bad[..bad.find('=').unwrap()];
        let error = read(bad).unwrap_err().to_string();
        assert!(error.contains(&format!("?{pointer}")), "{bad}: {error}");
    }
    assert!(read("page=1").is_err());
}

#[test]
fn long_waits_are_read_and_bounded_later() {
    let long = from_query("wait=99999").unwrap().wait.unwrap();
    assert_eq!(long, Duration::from_secs(86_400));
    let longer = format!("wait={}", "9".repeat(400));
    assert!(from_query(&longer).unwrap().wait.is_some());
}

#[test]
fn json_values_must_have_their_type() {
    for seven in ["7", "7.0", "70e-1", "0.7E1"] {
        assert_eq!(from_json("top_k", seven).unwrap().top_k, 7, "{seven}");
        let query = format!("top_k={seven}");
        assert_eq!(from_query(&query).unwrap().top_k, 7, "{seven}");
    }
    let cases = [
        ("top_k", "\"7\""),
        ("top_k", "1e999"),
        ("top_k", "1.5"),
        ("top_k", "1e300"),
        ("top_k", "NaN"),
        ("top_k", "-0.0"),
        ("model", "5"),
        ("version", "1"),
        ("metadata", "[1]"),
        ("wait", "1"),
        ("timeout_ms", "-5"),
        ("a/b~c", "1"),
    ];
    for (name, raw) in cases {
        assert!(from_json(name, raw).is_err(), "{name} = {raw}");
    }
    let slash = from_json("a/b~c", "1").unwrap_err().to_string();
    assert!(slash.contains("#/a~1b~0c"), "{slash}");
}

#[test]
fn metadata_has_a_bound() {
    let object = |bytes: usize| format!(r#"{{"k":"{}"}}"#, "x".repeat(bytes - 8));
    assert!(from_json("metadata", &object(1024)).is_ok());
    assert!(from_json("metadata", &object(1025)).is_err());
}

#[test]
fn cache_control_decides_reading_and_writing() {
    let cases = [
        ("", true, true),
        ("max-age=0", true, true),
        ("no-cache", false, true),
        ("No-Cache, max-age=0", false, true),
        ("no-store", false, false),
        ("no-cache, no-store", false, false),
    ];
    for (value, read, write) in cases {
        let mut headers = HeaderMap::new();
        headers.insert(CACHE_CONTROL, value.parse().unwrap());
        assert_eq!(
            cache_policy(&headers),
            CachePolicy { read, write },
            "{value}"
        );
    }
}
