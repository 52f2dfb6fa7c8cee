//! The `google.rpc` details of a failure inside a status.
//!
//! The few messages are declared here, with an ordered map, so that one failure always has one encoding.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;
use prost_types::{Any, Duration};
use tonic::Status;

use super::{DOMAIN, Failure};
use crate::time;

const ERROR_INFO: &str = "type.googleapis.com/google.rpc.ErrorInfo";
const BAD_REQUEST: &str = "type.googleapis.com/google.rpc.BadRequest";
const RETRY_INFO: &str = "type.googleapis.com/google.rpc.RetryInfo";

/// `google.rpc.Status`.
#[derive(Clone, PartialEq, Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

/// `google.rpc.ErrorInfo`.
#[derive(Clone, PartialEq, Message)]
struct ErrorInfo {
    #[prost(string, tag = "1")]
    reason: String,
    #[prost(string, tag = "2")]
    domain: String,
    #[prost(btree_map = "string, string", tag = "3")]
    metadata: BTreeMap<String, String>,
}

/// `google.rpc.BadRequest`.
#[derive(Clone, PartialEq, Message)]
struct BadRequest {
    #[prost(message, repeated, tag = "1")]
    field_violations: Vec<FieldViolation>,
}

/// `google.rpc.BadRequest.FieldViolation`.
#[derive(Clone, PartialEq, Message)]
struct FieldViolation {
    #[prost(string, tag = "1")]
    field: String,
    #[prost(string, tag = "2")]
    description: String,
}

/// `google.rpc.RetryInfo`.
#[derive(Clone, PartialEq, Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<Duration>,
}

pub(super) fn encode(failure: &Failure) -> Bytes {
    let mut details = Vec::new();
    if let Some(reason) = failure.reason {
        let info = ErrorInfo {
            reason: reason.as_str().to_owned(),
            domain: DOMAIN.to_owned(),
            metadata: failure.metadata.clone(),
        };
        details.push(any(ERROR_INFO, &info));
    }
    if let Some(field) = &failure.field {
        let violation = FieldViolation { field: field.clone(), description: failure.message.clone() };
        details.push(any(BAD_REQUEST, &BadRequest { field_violations: vec![violation] }));
    }
    if let Some(wait) = failure.retry_after {
        details.push(any(RETRY_INFO, &RetryInfo { retry_delay: Some(time::proto_duration(wait)) }));
    }
    if details.is_empty() {
        return Bytes::new();
    }
    RpcStatus { code: failure.code as i32, message: failure.message.clone(), details }.encode_to_vec().into()
}

pub(super) fn decode(status: &Status) -> Failure {
    let mut failure = Failure::without_reason(status.code(), status.message());
    let details = RpcStatus::decode(status.details()).unwrap_or_default().details;
    for any in details {
        match any.type_url.as_str() {
            ERROR_INFO => {
                let info = ErrorInfo::decode(&*any.value).unwrap_or_default();
                if info.domain == DOMAIN {
                    failure.reason = info.reason.parse().ok();
                    failure.metadata = info.metadata;
                }
            }
            BAD_REQUEST => {
                let request = BadRequest::decode(&*any.value).unwrap_or_default();
                failure.field = request.field_violations.into_iter().next().map(|violation| violation.field);
            }
            RETRY_INFO => {
                let retry = RetryInfo::decode(&*any.value).unwrap_or_default();
                failure.retry_after = retry.retry_delay.as_ref().and_then(time::duration);
            }
            _ => {}
        }
    }
    failure
}

fn any(type_url: &str, message: &impl Message) -> Any {
    Any { type_url: type_url.to_owned(), value: message.encode_to_vec() }
}
