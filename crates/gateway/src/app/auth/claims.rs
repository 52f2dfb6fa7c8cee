//! What a token says, and what is wrong where it says it in another form. Called by `auth` once the signature is good.

use serde::Deserialize;
use serde_json::Value;

/// What a token says. A claim that is there twice, or of another type, makes the token invalid.
#[derive(Deserialize)]
pub(super) struct Claims {
    pub(super) sub: Option<String>,
    pub(super) sid: Option<String>,
    pub(super) topics: Option<Vec<String>>,
    pub(super) exp: Option<f64>,
    pub(super) nbf: Option<f64>,
    pub(super) iat: Option<f64>,
    pub(super) iss: Option<String>,
    pub(super) aud: Option<Audience>,
}

#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Audience {
    One(String),
    Many(Vec<String>),
}

impl Audience {
    pub(super) fn names(&self, wanted: &str) -> bool {
        match self {
            Self::One(one) => one == wanted,
            Self::Many(many) => many.iter().any(|one| one == wanted),
        }
    }
}

/// The form of a claim.
#[derive(Clone, Copy)]
enum Form {
    Text,
    Number,
    Texts,
    TextOrTexts,
}

const FORMS: [(&str, Form); 8] = [
    ("sub", Form::Text),
    ("sid", Form::Text),
    ("iss", Form::Text),
    ("exp", Form::Number),
    ("nbf", Form::Number),
    ("iat", Form::Number),
    ("topics", Form::Texts),
    ("aud", Form::TextOrTexts),
];

/// What is wrong with claims that are no [`Claims`], without a word of what they hold.
pub(super) fn fault(claims: &Value) -> String {
    let wrong = FORMS.iter().find(|(name, form)| {
        let claim = claims.get(name).filter(|claim| !claim.is_null());
        claim.is_some_and(|claim| !form.fits(claim))
    });
    match wrong {
        Some((name, form)) => format!("the token's `{name}` must be {}", form.called()),
        None => {
            "the token's claims are not valid: they must be a JSON object with each claim once".to_owned()
        }
    }
}

impl Form {
    fn fits(self, claim: &Value) -> bool {
        let texts = || claim.as_array().is_some_and(|all| all.iter().all(Value::is_string));
        match self {
            Self::Text => claim.is_string(),
            Self::Number => claim.is_number(),
            Self::Texts => texts(),
            Self::TextOrTexts => claim.is_string() || texts(),
        }
    }

    const fn called(self) -> &'static str {
        match self {
            Self::Text => "text, in quotes",
            Self::Number => "a number: seconds since 1970, no text",
            Self::Texts => "a list of texts",
            Self::TextOrTexts => "text or a list of texts",
        }
    }
}
