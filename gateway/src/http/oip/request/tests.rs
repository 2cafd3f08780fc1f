//! Requests that are read, and all the ways in which they lie.

use serde_json::json;

use super::*;

fn refusal(length: Option<&str>, body: impl Into<Bytes>) -> &'static str {
    let body = body.into();
    match parse(length.map(str::as_bytes), &body) {
        Ok(request) => panic!("{request:?}"),
        Err(error) => error.code().as_str(),
    }
}

fn with(field: &str, value: Value) -> String {
    let mut input = json!({"name": "x", "shape": [1, 2], "datatype": "UINT8", "data": [1, 2]});
    input[field] = value;
    json!({"inputs": [input]}).to_string()
}

#[test]
fn json_and_binary_are_the_same_tensor() {
    let json =
        json!({"inputs": [{"name": "x", "shape": [2], "datatype": "UINT8", "data": [3, 4]}]});
    let head = json!({"inputs": [{"name": "x", "shape": [2], "datatype": "UINT8", "parameters": {"binary_data_size": 2}}]}).to_string();
    let binary = [head.as_bytes(), &[3, 4]].concat();
    let of_json = parse(None, &json.to_string().into()).unwrap();
    let of_binary = parse(Some(head.len().to_string().as_bytes()), &binary.into()).unwrap();
    assert_eq!(of_json, of_binary);
    let Inputs::Named(inputs) = of_json.inputs else {
        panic!("no names")
    };
    assert_eq!(
        (&*inputs[0].values, &inputs[0].shape),
        (&[3, 4][..], &vec![2])
    );
}

#[test]
fn wishes_are_read() {
    let body = json!({
        "id": "7", "parameters": {"timeout": 1500, "binary_data_output": true, "content_type": "np"}, "inputs": [],
        "outputs": [{"name": "y", "parameters": {"classification": 3, "binary_data": false}}],
    });
    let request = parse(None, &body.to_string().into()).unwrap();
    assert_eq!(request.timeout, Some(Duration::from_micros(1500)));
    assert!(request.binary && request.id.as_deref() == Some("7"));
    let wanted = RequestedOutput {
        name: "y".to_owned(),
        classes: Some(3),
        binary: Some(false),
    };
    assert_eq!(request.outputs, [wanted]);
}

#[test]
fn tensors_that_contradict_themselves_are_refused() {
    for (field, value) in [
        ("shape", json!([3])),
        ("shape", json!([1])),
        ("shape", json!([-2])),
        ("shape", json!([-1, -2])),
        ("shape", json!([0])),
        ("shape", json!([i64::MAX, i64::MAX])),
        ("shape", json!([1_u64 << 62, 8])),
        ("datatype", json!("BYTES")),
        ("datatype", json!("uint8")),
        ("data", json!([1, 256])),
        ("data", json!("ab")),
        ("parameters", json!({"binary_data_size": 2})),
        ("data", Value::Null),
    ] {
        assert_eq!(
            refusal(None, with(field, value.clone())),
            "invalid_tensor",
            "{field} {value}"
        );
    }
    let float = json!({"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "parameters": {"binary_data_size": 4}}]}).to_string();
    let length = float.len().to_string();
    for tail in [
        &f32::NAN.to_le_bytes()[..],
        &f32::INFINITY.to_le_bytes(),
        &[0; 3],
        &[0; 5],
    ] {
        let body = [float.as_bytes(), tail].concat();
        assert_eq!(refusal(Some(&length), body), "invalid_tensor", "{tail:?}");
    }
}

#[test]
fn what_is_no_request_is_refused() {
    let good = with("name", json!("x"));
    for length in ["1000000", "-1", "+5", "abc", "18446744073709551616", "3"] {
        assert_eq!(
            refusal(Some(length), good.clone()),
            "bad_request",
            "{length}"
        );
    }
    for body in [
        "",
        "{}",
        "[]",
        "{\"inputs\":7}",
        "{\"inputs\":[{}]}",
        "{\"inputs\":[],\"inputs\":[]}",
        "\u{0}",
    ] {
        assert_eq!(refusal(None, body.to_owned()), "bad_request", "{body}");
    }
    for (field, value) in [
        ("shape", json!([1.5])),
        ("shape", json!([u64::MAX])),
        ("name", json!(5)),
        ("parameters", json!({"shared_memory_region": "r"})),
        ("parameters", json!({"binary_data_size": -2})),
    ] {
        assert_eq!(
            refusal(None, with(field, value.clone())),
            "bad_request",
            "{field} {value}"
        );
    }
}

#[test]
fn json_beyond_the_depth_of_all_bodies_is_refused_wherever_it_is() {
    let deep = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
    for levels in [depth::MAX_DEPTH, 100_000] {
        for body in [
            with("data", Value::Null).replace("null", &deep(levels)),
            format!(r#"{{"inputs":[],"parameters":{{"x":{}}}}}"#, deep(levels)),
            format!(r#"{{"inputs":[],"unknown":{}}}"#, deep(levels)),
        ] {
            assert_eq!(refusal(None, body), "bad_request", "{levels} levels");
        }
    }
    let shallow = format!(
        r#"{{"inputs":[],"unknown":{}}}"#,
        deep(depth::MAX_DEPTH - 1)
    );
    assert!(parse(None, &shallow.into()).is_ok());
}

#[test]
fn a_cut_body_never_reads_as_a_whole_one() {
    let head = json!({"inputs": [{"name": "x", "shape": [2], "datatype": "FP32", "parameters": {"binary_data_size": 8}}]}).to_string();
    let body = Bytes::from([head.as_bytes(), &[0; 8]].concat());
    let length = head.len().to_string();
    for cut in 0..body.len() {
        assert!(
            parse(Some(length.as_bytes()), &body.slice(..cut)).is_err(),
            "cut at {cut}"
        );
    }
}
