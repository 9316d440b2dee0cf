//! Turns an error of the HTTP client into a failure class (by the error's type, never by its text)
//! and advice. Texts of awc may contain the URL and are not used.

use std::borrow::Cow;
use std::error::Error;
use std::io;
use std::time::Duration;

use actix_http::error::ParseError;
use awc::error::{ConnectError, SendRequestError};

use super::dial::ProxyFailure;
use super::head::HeadError;
use super::machine::{Lack, cut_off, lack};
use super::tls::Tls;
use super::tls_fault::TlsFault;
use super::wire::Stale;
use crate::delivery::{Failure, FailureClass};

/// A failure's class, what happened, and what to do about it.
type Words = (FailureClass, Cow<'static, str>, Cow<'static, str>);

const SEE_ITS_LOG: &str =
    "see that the endpoint runs, and in its log, or that of what stands before it, why it closes connections";

/// The failure of an attempt whose deadline passed.
pub(super) fn timeout(deadline: Duration) -> Failure {
    Failure {
        class: FailureClass::Timeout,
        message: format!("no complete answer within {} ms", deadline.as_millis()),
        hint: "see why the endpoint is slow or not reached (a firewall?), or raise per_request_timeout_ms"
            .into(),
    }
}

/// The failure that an error means for an attempt at `host`.
pub(super) async fn of(error: &SendRequestError, host: &str, tls: Option<&Tls>) -> Failure {
    let local = match error {
        SendRequestError::Connect(error) if is_of_a_name(error) => {
            let cut_off = actix_rt::task::spawn_blocking(cut_off).await.ok().flatten();
            cut_off.map(local)
        }
        _ => None,
    };
    let (class, message, hint) = match error {
        _ if let Some(words) = local => words,
        SendRequestError::Connect(error) => of_connecting(error, host, tls),
        SendRequestError::Send(error) => of_io(error, host, tls, "the connection broke"),
        SendRequestError::Response(ParseError::Io(error)) => {
            of_io(error, host, tls, "the connection broke in the answer")
        }
        SendRequestError::Response(_) | SendRequestError::H2(_) => {
            no_http("what came back is not HTTP/1".into())
        }
        SendRequestError::Timeout => (FailureClass::Timeout, "no answer in time".into(), SEE_ITS_LOG.into()),
        _ => (
            FailureClass::Protocol,
            "the request could not be made".into(),
            "correct the subscription's url and headers".into(),
        ),
    };
    Failure { class, message: message.into_owned(), hint }
}

/// Whether the endpoint had closed the kept-alive connection, so that the request was not read.
pub(super) fn is_stale(error: &SendRequestError) -> bool {
    match error {
        SendRequestError::Send(error) | SendRequestError::Response(ParseError::Io(error)) => {
            within::<Stale>(error).is_some()
        }
        _ => false,
    }
}

fn within<T: Error + 'static>(error: &io::Error) -> Option<&T> {
    error.get_ref()?.downcast_ref()
}

/// Whether a name did not resolve: the endpoint's or the proxy's.
fn is_of_a_name(error: &ConnectError) -> bool {
    match error {
        ConnectError::Resolver(_) => true,
        ConnectError::Io(error) => matches!(within(error), Some(ProxyFailure::Unresolved(_))),
        _ => false,
    }
}

fn local(Lack { message, hint }: Lack) -> Words {
    (FailureClass::Local, message.into(), hint.into())
}

fn unresolved() -> Words {
    (
        FailureClass::Dns,
        "the host name does not resolve".into(),
        "correct the host in the subscription's url, or see what this machine's DNS says of it".into(),
    )
}

fn no_http(message: Cow<'static, str>) -> Words {
    (
        FailureClass::Protocol,
        message,
        "see that the subscription's url leads to a web server, and what stands before it".into(),
    )
}

fn of_connecting(error: &ConnectError, host: &str, tls: Option<&Tls>) -> Words {
    match error {
        ConnectError::Resolver(error) => lack(error.as_ref()).map_or_else(unresolved, local),
        ConnectError::NoRecords | ConnectError::Unresolved => unresolved(),
        ConnectError::Io(error) => of_io(error, host, tls, "cannot connect"),
        ConnectError::Timeout => (FailureClass::Timeout, "no connection in time".into(), SEE_ITS_LOG.into()),
        ConnectError::Disconnected => (
            FailureClass::Connection,
            "the endpoint closed the connection without an answer".into(),
            SEE_ITS_LOG.into(),
        ),
        _ => (FailureClass::Connection, "cannot connect".into(), SEE_ITS_LOG.into()),
    }
}

fn of_io(error: &io::Error, host: &str, tls: Option<&Tls>, what: &str) -> Words {
    if let Some(lack) = lack(error) {
        return local(lack);
    }
    if let Some(failure) = within::<ProxyFailure>(error) {
        if let ProxyFailure::Unreachable(_, error) = failure
            && let Some(lack) = lack(error)
        {
            return local(lack);
        }
        return (FailureClass::Proxy, failure.to_string().into(), failure.hint().into());
    }
    if let Some(error) = within::<HeadError>(error) {
        return no_http(error.to_string().into());
    }
    // A TLS alert can come with any read after the handshake: one about the client certificate
    // does.
    let alert = within::<openssl::ssl::Error>(error).map(|error| TlsFault::of_error(error, host));
    if let Some(fault) = within::<TlsFault>(error).or(alert.as_ref()) {
        let hint = tls.map_or_else(String::new, |tls| tls.hint(fault));
        return (FailureClass::Tls, fault.to_string().into(), hint.into());
    }
    // `Other` is what most errors have that no system call reports; its text says nothing.
    let why = match error.kind() {
        io::ErrorKind::Other => "it was closed".to_owned(),
        kind => kind.to_string(),
    };
    let hint = match error.kind() {
        io::ErrorKind::ConnectionRefused => {
            "nothing listens there: start the endpoint, or correct the port in the subscription's url"
        }
        io::ErrorKind::HostUnreachable => {
            "see that the endpoint's machine runs, and that no firewall is in between"
        }
        _ => SEE_ITS_LOG,
    };
    (FailureClass::Connection, format!("{what}: {why}").into(), hint.into())
}
