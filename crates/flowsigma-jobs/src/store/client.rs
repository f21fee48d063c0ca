//! The HTTP client of a store in the cloud.
//!
//! Owns: that no redirect is followed, no proxy of the environment is used, and no host is asked that the configuration
//! does not name. Must not know: which service it talks to.
//!
//! The [`ClientOptions`] of `object_store` have no option for redirects: its own client follows up to ten of them, to
//! any host, and honors `HTTPS_PROXY`. The builders of all three services accept an [`HttpConnector`], which every
//! request goes through, those for credentials too. So this one builds the reqwest client itself, and refuses an origin
//! that is not listed before a connection is made. A redirect is then a response with status 3xx, which `object_store`
//! reports as an error.

use async_trait::async_trait;
use jiff::SignedDuration;
use object_store::client::{
    ClientConfigKey, HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse,
    HttpService,
};
use object_store::{ClientOptions, Error};
use reqwest::redirect::Policy;
use std::collections::BTreeSet;
use std::time::Duration;
use url::Url;

/// Scheme, host and port of a URL.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Origin(String);

impl Origin {
    pub(super) fn of(url: &Url) -> Self {
        Self(url.origin().ascii_serialization())
    }
}

/// Builds clients that ask only the given origins.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    pub(super) allowed: BTreeSet<Origin>,
}

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let allow_http = options.get_config_value(&ClientConfigKey::AllowHttp).is_some_and(|v| v == "true");
        let mut builder = reqwest::Client::builder()
            .redirect(Policy::none())
            .no_proxy()
            .no_gzip()
            .http1_only()
            .https_only(!allow_http)
            .user_agent(concat!("flowsigma/", env!("CARGO_PKG_VERSION")));
        if let Some(timeout) = duration(options, ClientConfigKey::Timeout)? {
            builder = builder.timeout(timeout);
        }
        if let Some(timeout) = duration(options, ClientConfigKey::ConnectTimeout)? {
            builder = builder.connect_timeout(timeout);
        }
        let client = builder.build().map_err(|e| generic(Box::new(e)))?;
        Ok(HttpClient::new(Guarded { client, allowed: self.allowed.clone() }))
    }
}

fn duration(options: &ClientOptions, key: ClientConfigKey) -> object_store::Result<Option<Duration>> {
    let Some(text) = options.get_config_value(&key) else { return Ok(None) };
    let refused = || generic(format!("{}: {text:?} is not a duration; use 30s or 2m", key.as_ref()).into());
    let duration: SignedDuration = text.parse().map_err(|_| refused())?;
    Duration::try_from(duration).map(Some).map_err(|_| refused())
}

fn generic(source: Box<dyn std::error::Error + Send + Sync>) -> Error {
    Error::Generic { store: "HTTP client", source }
}

#[derive(Debug)]
struct Guarded {
    client: reqwest::Client,
    allowed: BTreeSet<Origin>,
}

/// An origin that no option of the store names. It has no path, since that may contain a secret.
#[derive(Debug, thiserror::Error)]
#[error("a request to {0} was refused, because no option of the store names this host")]
struct NotNamed(String);

#[async_trait]
impl HttpService for Guarded {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let origin = Url::parse(&request.uri().to_string()).map(|url| Origin::of(&url));
        match origin {
            Ok(origin) if self.allowed.contains(&origin) => self.client.call(request).await,
            Ok(Origin(text)) => Err(HttpError::new(HttpErrorKind::Unknown, NotNamed(text))),
            Err(_) => {
                Err(HttpError::new(HttpErrorKind::Unknown, NotNamed("a URL that cannot be read".into())))
            }
        }
    }
}
