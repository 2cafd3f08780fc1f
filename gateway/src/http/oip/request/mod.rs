//! An inference request's body to tensors and wishes: a pure function on bytes that no client can be trusted with.
//!
//! The body is JSON, or JSON of a stated length with binary values behind it, or, with a length of 0, values alone.

use std::time::Duration;

use bytes::Bytes;
use selvage_core::tensor::{self, Datatype};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::values;
use crate::http::depth;
use crate::http::error::{ApiError, Code};

/// Most labels an output can be asked for.
const MAX_CLASSES: u64 = 1000;
/// Longest request id that is given back.
const MAX_ID_BYTES: usize = 1024;
/// Parameters whose being ignored would make an answer wrong.
const UNSUPPORTED: [&str; 4] = [
    "sequence_id",
    "priority",
    "shared_memory_region",
    "shared_memory_offset",
];

/// An inference request; each tensor has as many values as its shape says.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// The client's name for it.
    pub id: Option<String>,
    /// How long the client waits.
    pub timeout: Option<Duration>,
    /// What is to be classified.
    pub inputs: Inputs,
    /// What is asked for; the model's only output where nothing is named.
    pub outputs: Vec<RequestedOutput>,
    /// Outputs that say nothing of their form are binary.
    pub binary: bool,
}

/// What is to be classified.
#[derive(Clone, Debug, PartialEq)]
pub enum Inputs {
    /// Tensors with their names.
    Named(Vec<Tensor>),
    /// The values of the model's only input, as it declares it.
    Raw(Bytes),
}

/// One input.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Its name.
    pub name: String,
    /// Its dimensions; their product is the number of values.
    pub shape: Vec<usize>,
    /// Its values' type.
    pub datatype: Datatype,
    /// Its values, little-endian; floats are finite.
    pub values: Bytes,
}

/// One output as it is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestedOutput {
    /// Its name.
    pub name: String,
    /// The best so many labels instead of the scores.
    pub classes: Option<usize>,
    /// Values behind the JSON.
    pub binary: Option<bool>,
}

/// The JSON of a request.
#[derive(Deserialize, ToSchema)]
#[schema(as = InferenceRequest)]
pub struct Body<'a> {
    id: Option<String>,
    #[serde(default)]
    #[schema(value_type = Object)]
    parameters: Map<String, Value>,
    #[serde(borrow)]
    #[schema(min_items = 1, max_items = 1)]
    inputs: Vec<Input<'a>>,
    #[serde(default)]
    #[schema(max_items = 1)]
    outputs: Vec<Output>,
}

#[derive(Deserialize, ToSchema)]
#[schema(as = InferenceInput)]
struct Input<'a> {
    #[schema(min_length = 1)]
    name: String,
    #[schema(min_items = 1, value_type = Vec<u32>, minimum = 1)]
    shape: Vec<i64>,
    #[schema(pattern = "^(UINT8|FP32)$")]
    datatype: String,
    #[serde(default)]
    #[schema(value_type = Object)]
    parameters: Map<String, Value>,
    #[serde(borrow)]
    #[schema(value_type = Option<Vec<Value>>)]
    data: Option<&'a RawValue>,
}

#[derive(Deserialize, ToSchema)]
#[schema(as = InferenceWanted)]
struct Output {
    name: String,
    #[serde(default)]
    #[schema(value_type = Object)]
    parameters: Map<String, Value>,
}

/// Reads a body whose JSON part has the length that the header says; all of it without one.
///
/// # Errors
/// `bad_request` for what is no such request, `invalid_tensor` for tensors that contradict themselves.
pub fn parse(json_length: Option<&[u8]>, body: &Bytes) -> Result<Request, ApiError> {
    let length = json_length.map_or(Ok(body.len()), |text| {
        let digits = std::str::from_utf8(text)
            .ok()
            .filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
        let length = digits.and_then(|digits| digits.parse().ok());
        let detail =
            "Inference-Header-Content-Length must be the length of the JSON, within the body";
        length
            .filter(|length| *length <= body.len())
            .ok_or_else(|| bad(detail))
    })?;
    if json_length.is_some() && length == 0 {
        return Ok(Request {
            id: None,
            timeout: None,
            inputs: Inputs::Raw(body.clone()),
            outputs: Vec::new(),
            binary: true,
        });
    }
    depth::check(&body[..length])?;
    let parsed: Body<'_> = serde_json::from_slice(&body[..length]).map_err(|error| {
        let reason: String = error.to_string().chars().take(200).collect();
        bad(format!("the request is no inference request: {reason}"))
    })?;
    if parsed.id.as_ref().is_some_and(|id| id.len() > MAX_ID_BYTES) {
        return Err(bad(format!("id: may have at most {MAX_ID_BYTES} bytes")));
    }
    supported("parameters", &parsed.parameters)?;
    let mut binary = body.slice(length..);
    let mut inputs = Vec::new();
    for input in parsed.inputs {
        inputs.push(tensor(input, &mut binary, body.len())?);
    }
    if !binary.is_empty() {
        return Err(wrong(format!(
            "{} bytes are behind the last tensor",
            binary.len()
        )));
    }
    Ok(Request {
        id: parsed.id,
        timeout: integer(&parsed.parameters, "timeout")?
            .filter(|us| *us > 0)
            .map(Duration::from_micros),
        inputs: Inputs::Named(inputs),
        outputs: parsed
            .outputs
            .into_iter()
            .map(wanted)
            .collect::<Result<_, _>>()?,
        binary: boolean(&parsed.parameters, "binary_data_output")?.unwrap_or(false),
    })
}

fn tensor(input: Input<'_>, binary: &mut Bytes, body: usize) -> Result<Tensor, ApiError> {
    let name: String = input.name.chars().take(64).collect();
    let of = |problem: &str| wrong(format!("input `{name}`: {problem}"));
    supported("inputs", &input.parameters)?;
    let datatype = Datatype::ALL
        .into_iter()
        .find(|kind| kind.as_str() == input.datatype);
    let datatype = datatype.ok_or_else(|| of("its datatype is not taken; UINT8 and FP32 are"))?;
    let shape: Option<Vec<usize>> = input
        .shape
        .iter()
        .map(|side| usize::try_from(*side).ok().filter(|side| *side > 0))
        .collect();
    let shape = shape.ok_or_else(|| of("every dimension must be at least 1"))?;
    let count = shape
        .iter()
        .try_fold(1, |count: usize, side| count.checked_mul(*side));
    // A value takes a byte at least, so a shape beyond the body is a lie.
    let count = count
        .filter(|count| *count <= body)
        .ok_or_else(|| of("its shape has more values than the body"))?;
    let values = match (integer(&input.parameters, "binary_data_size")?, input.data) {
        (Some(_), Some(_)) => {
            return Err(of("has data and binary_data_size; one of them is enough"));
        }
        (None, None) => return Err(of("has neither data nor binary_data_size")),
        (None, Some(json)) => {
            Bytes::from(values::read(json.get(), datatype, count).map_err(|problem| of(&problem))?)
        }
        (Some(size), None) => {
            if size != (count * datatype.size()) as u64 {
                return Err(of("binary_data_size is not that of its shape and datatype"));
            }
            let size = count * datatype.size();
            if size > binary.len() {
                return Err(of("the body ends before its values do"));
            }
            binary.split_to(size)
        }
    };
    if datatype == Datatype::Fp32 && tensor::floats(&values).is_none() {
        return Err(of("has values that are no numbers"));
    }
    Ok(Tensor {
        name: input.name,
        shape,
        datatype,
        values,
    })
}

fn wanted(output: Output) -> Result<RequestedOutput, ApiError> {
    supported("outputs", &output.parameters)?;
    let classes = integer(&output.parameters, "classification")?.filter(|classes| *classes > 0);
    if classes.is_some_and(|classes| classes > MAX_CLASSES) {
        return Err(bad(format!("classification: may be at most {MAX_CLASSES}")));
    }
    Ok(RequestedOutput {
        classes: classes.and_then(|classes| usize::try_from(classes).ok()),
        binary: boolean(&output.parameters, "binary_data")?,
        name: output.name,
    })
}

fn supported(pointer: &str, parameters: &Map<String, Value>) -> Result<(), ApiError> {
    match UNSUPPORTED
        .iter()
        .find(|name| parameters.contains_key(**name))
    {
        None => Ok(()),
        Some(name) => Err(bad(format!(
            "{pointer}: `{name}` is not supported; GET /v2 lists the extensions that are"
        ))),
    }
}

fn integer(parameters: &Map<String, Value>, name: &str) -> Result<Option<u64>, ApiError> {
    let read = |value: &Value| {
        value
            .as_u64()
            .ok_or_else(|| bad(format!("`{name}` must be a whole number, 0 or more")))
    };
    parameters.get(name).map(read).transpose()
}

fn boolean(parameters: &Map<String, Value>, name: &str) -> Result<Option<bool>, ApiError> {
    let read = |value: &Value| {
        value
            .as_bool()
            .ok_or_else(|| bad(format!("`{name}` must be true or false")))
    };
    parameters.get(name).map(read).transpose()
}

fn bad(detail: impl Into<std::borrow::Cow<'static, str>>) -> ApiError {
    ApiError::new(Code::BadRequest, detail)
}

fn wrong(detail: String) -> ApiError {
    ApiError::new(Code::InvalidTensor, detail)
}

#[cfg(test)]
mod tests;
