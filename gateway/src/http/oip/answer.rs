//! Scores to an inference response: JSON, or JSON with binary values behind it.

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use selvage_core::catalog::Model;
use selvage_core::output::Output;
use serde::Serialize;
use utoipa::ToSchema;

use super::{JSON_LENGTH, Request, output_name};
use crate::http::error::{ApiError, Code};

/// The answers to one request, image by image; each ranks all labels of the model.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// The model that was asked.
    pub model: &'a Model,
    /// What was asked.
    pub request: &'a Request,
    /// What it answered.
    pub outputs: &'a [Output],
}

/// The JSON of an answer.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = InferenceResponse)]
pub struct Body<'a> {
    model_name: &'a str,
    model_version: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    outputs: Vec<Shown<'a>>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = InferenceOutput)]
struct Shown<'a> {
    name: &'a str,
    datatype: &'static str,
    shape: [usize; 2],
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<Binary>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Data>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = BinaryData)]
struct Binary {
    binary_data_size: usize,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
#[schema(as = InferenceData)]
enum Data {
    Scores(Vec<f32>),
    Classes(Vec<String>),
}

impl Data {
    fn of(outputs: &[Output], classes: Option<usize>) -> Self {
        match classes {
            None => Self::Scores(outputs.iter().flat_map(scores).collect()),
            Some(classes) => {
                let best = |output: &Output| {
                    let text = |ranked: &selvage_core::output::Ranked| {
                        format!("{}:{}:{}", ranked.score, ranked.index, ranked.label)
                    };
                    output
                        .top
                        .iter()
                        .take(classes)
                        .map(text)
                        .collect::<Vec<_>>()
                };
                Self::Classes(outputs.iter().flat_map(best).collect())
            }
        }
    }

    const fn datatype(&self) -> &'static str {
        match self {
            Self::Scores(_) => "FP32",
            Self::Classes(_) => "BYTES",
        }
    }

    const fn len(&self) -> usize {
        match self {
            Self::Scores(scores) => scores.len(),
            Self::Classes(classes) => classes.len(),
        }
    }

    /// Little-endian floats, or texts each behind its length in four bytes.
    fn append(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Scores(scores) => scores
                .iter()
                .for_each(|score| bytes.extend(score.to_le_bytes())),
            Self::Classes(classes) => {
                for class in classes {
                    bytes.extend(u32::try_from(class.len()).unwrap_or(u32::MAX).to_le_bytes());
                    bytes.extend(class.as_bytes());
                }
            }
        }
    }
}

/// Scores in the order of the model's labels.
fn scores(output: &Output) -> Vec<f32> {
    let mut scores = vec![0.0; output.top.len()];
    for ranked in &output.top {
        if let Some(score) = scores.get_mut(ranked.index) {
            *score = ranked.score;
        }
    }
    scores
}

/// Refuses outputs the model does not have, before any work is done for them.
///
/// # Errors
/// `invalid_tensor`.
pub(super) fn check(request: &Request, model: &Model) -> Result<(), ApiError> {
    let name = output_name(model);
    if request.outputs.len() > 1 || request.outputs.iter().any(|wanted| wanted.name != name) {
        let detail = format!("the model has one output, called `{name}`");
        return Err(ApiError::new(Code::InvalidTensor, detail));
    }
    Ok(())
}

/// The response, complete but for headers every answer has.
///
/// # Errors
/// `invalid_tensor` for outputs the model does not have.
pub fn respond(answer: Answer<'_>) -> Result<Response, ApiError> {
    let Answer {
        model,
        request,
        outputs,
    } = answer;
    check(request, model)?;
    let wanted = request.outputs.first();
    let binary = wanted
        .and_then(|wanted| wanted.binary)
        .unwrap_or(request.binary);
    let data = Data::of(outputs, wanted.and_then(|wanted| wanted.classes));
    let mut values = Vec::new();
    if binary {
        data.append(&mut values);
    }
    let shown = Shown {
        name: output_name(model),
        datatype: data.datatype(),
        shape: [outputs.len(), data.len() / outputs.len().max(1)],
        parameters: binary.then_some(Binary {
            binary_data_size: values.len(),
        }),
        data: (!binary).then_some(data),
    };
    let body = Body {
        model_name: model.name.as_str(),
        model_version: &model.version,
        id: request.id.as_deref(),
        outputs: vec![shown],
    };
    let mut bytes = serde_json::to_vec(&body).map_err(ApiError::internal)?;
    let mut headers = HeaderMap::new();
    let kind = if binary {
        "application/octet-stream"
    } else {
        "application/json"
    };
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    if binary {
        headers.insert(
            HeaderName::from_static(JSON_LENGTH),
            HeaderValue::from(bytes.len()),
        );
        bytes.extend(values);
    }
    Ok((headers, bytes).into_response())
}
