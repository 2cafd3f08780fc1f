//! A route's description, and the way in which both are registered at once.

use axum::handler::Handler;
use axum::routing::{self, MethodRouter};
use serde_json::Value;
use utoipa::ToSchema;
use utoipa::openapi::link::LinkBuilder;
use utoipa::openapi::path::{Operation as Described, Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::request_body::RequestBody;
use utoipa::openapi::schema::Schema;
use utoipa::openapi::{Content, HttpMethod, Paths, Ref, RefOr, Required, Response};
use utoipa_axum::router::UtoipaMethodRouter;

use super::content::content;
use super::headers::Header;
use super::problems::{Form, problems};
use crate::http::app::App;
use crate::http::error::{Code, Problem};
use crate::http::oip::ErrorBody;

/// What a route is described with.
#[derive(Clone)]
pub struct Operation {
    described: Described,
    codes: Vec<Code>,
    schemas: Vec<(String, RefOr<Schema>)>,
}

impl Operation {
    /// One of that id, in a group, with a line and a paragraph about it.
    #[must_use]
    pub fn new(id: &str, tag: &str, summary: &str, description: &str) -> Self {
        let mut described = Described::new();
        described.operation_id = Some(id.to_owned());
        described.tags = Some(vec![tag.to_owned()]);
        described.summary = Some(summary.to_owned());
        described.description = Some(description.to_owned());
        Self {
            described,
            codes: vec![
                Code::BadRequest,
                Code::Internal,
                Code::UnsupportedTransferCoding,
            ],
            schemas: Vec::new(),
        }
    }

    /// With a parameter.
    #[must_use]
    pub fn parameter(mut self, parameter: Parameter) -> Self {
        super::push(&mut self.described, parameter);
        self
    }

    /// With parameters.
    #[must_use]
    pub fn parameters(self, parameters: impl IntoIterator<Item = Parameter>) -> Self {
        parameters.into_iter().fold(self, Self::parameter)
    }

    /// With a part of its path.
    #[must_use]
    pub fn path(
        self,
        name: &str,
        says: &str,
        schema: impl Into<RefOr<Schema>>,
        example: &str,
    ) -> Self {
        let parameter = ParameterBuilder::new()
            .name(name)
            .parameter_in(ParameterIn::Path)
            .required(Required::True)
            .description(Some(says))
            .schema(Some(schema))
            .example(Some(example.into()));
        self.parameter(parameter.build())
    }

    /// With a request's body.
    #[must_use]
    pub fn body(mut self, body: RequestBody) -> Self {
        self.described.request_body = Some(RefOr::T(body));
        self
    }

    /// A reference to a type's schema, which becomes part of the document.
    pub fn refer<T: ToSchema>(&mut self) -> Ref {
        self.schemas.push((T::name().into_owned(), T::schema()));
        T::schemas(&mut self.schemas);
        Ref::from_schema_name(T::name())
    }

    /// Answers JSON of this type.
    #[must_use]
    pub fn json<T: ToSchema>(mut self, status: u16, says: &str, example: Option<Value>) -> Self {
        let schema = self.refer::<T>();
        let example = example.map(|example| ("example", example));
        self.answer(
            status,
            says,
            [("application/json", content(schema, example))],
        )
    }

    /// Answers content of these kinds; none for an empty body.
    #[must_use]
    pub fn answer<'a>(
        mut self,
        status: u16,
        says: &str,
        kinds: impl IntoIterator<Item = (&'a str, Content)>,
    ) -> Self {
        let mut response = Response::new(says);
        for (kind, content) in kinds {
            response.content.insert(kind.to_owned(), content.into());
        }
        let responses = &mut self.described.responses.responses;
        responses.insert(status.to_string(), response.into());
        self
    }

    /// The answer of that status has these headers.
    #[must_use]
    pub fn headers(mut self, status: u16, headers: &[Header]) -> Self {
        if let Some(RefOr::T(response)) = self.response(status) {
            response.headers.extend(headers.iter().map(|header| {
                let (name, header) = header.build();
                (name, header.into())
            }));
        }
        self
    }

    /// The id at that place of the answer of that status is what these operations take.
    #[must_use]
    pub fn leads_to(mut self, status: u16, pointer: &str, operations: &[&str]) -> Self {
        if let Some(RefOr::T(response)) = self.response(status) {
            response.links.extend(operations.iter().map(|operation| {
                let link = LinkBuilder::new().operation_id(*operation);
                let link = link
                    .parameter("id", format!("$response.body#{pointer}"))
                    .build();
                ((*operation).to_owned(), link.into())
            }));
        }
        self
    }

    fn response(&mut self, status: u16) -> Option<&mut RefOr<Response>> {
        let responses = &mut self.described.responses.responses;
        responses.get_mut(&status.to_string())
    }

    /// Can answer these errors.
    #[must_use]
    pub fn fails(mut self, codes: &[Code]) -> Self {
        self.codes.extend(codes);
        self
    }

    /// A route that is described by this, for `GET`.
    pub fn get<H: Handler<T, App>, T: 'static>(
        self,
        path: &str,
        handler: H,
    ) -> UtoipaMethodRouter<App> {
        self.on(path, HttpMethod::Get, routing::get(handler))
    }

    /// A route that is described by this, for `POST`.
    pub fn post<H: Handler<T, App>, T: 'static>(
        self,
        path: &str,
        handler: H,
    ) -> UtoipaMethodRouter<App> {
        self.on(path, HttpMethod::Post, routing::post(handler))
    }

    /// A route that is described by this, for `DELETE`.
    pub fn delete<H: Handler<T, App>, T: 'static>(
        self,
        path: &str,
        handler: H,
    ) -> UtoipaMethodRouter<App> {
        self.on(path, HttpMethod::Delete, routing::delete(handler))
    }

    fn on(
        mut self,
        path: &str,
        method: HttpMethod,
        handler: MethodRouter<App>,
    ) -> UtoipaMethodRouter<App> {
        let form = Form::of(path);
        match form {
            Form::Problem => self.refer::<Problem<'_>>(),
            Form::Inference => self.refer::<ErrorBody<'_>>(),
        };
        problems(&mut self.described, form, &self.codes);
        let mut paths = Paths::new();
        paths.add_path_operation(path, vec![method], self.described);
        (self.schemas, paths, handler)
    }
}
