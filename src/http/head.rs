//! Parses the head of an answer as RFC 9112 defines it, and rewrites it in one form that awc reads
//! without ambiguity. Only the headers that are needed are passed on; where the answer ends is
//! always stated.

use std::borrow::Cow;

use httparse::{Header, ParserConfig, Status};

/// Most bytes of heads before an answer's body, interim answers included.
pub(super) const MAX_HEAD_BYTES: usize = 64 * 1024;

/// The response headers that are kept, names in lower case. No others, because a response may hold
/// cookies and tokens.
pub(super) const KEPT_HEADERS: [&str; 7] = [
    "content-type",
    "content-encoding",
    "date",
    "retry-after",
    "x-ratelimit-reset-after",
    "server",
    "location",
];

/// Collects bytes until the answer's head is complete.
#[derive(Debug, Default)]
pub(super) struct HeadReader {
    come: Vec<u8>,
    /// No empty line begins before this position.
    searched: usize,
    interim_bytes: usize,
}

/// The head of an answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) status: u16,
    pub(super) end: End,
    /// The head in the form for awc.
    pub(super) bytes: Vec<u8>,
    /// The bytes after the head.
    pub(super) rest: Vec<u8>,
}

/// Why the bytes are not an answer. The texts appear in the evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum HeadError {
    #[error("what came back is not HTTP/1")]
    NotHttp,
    #[error("what came back is TLS, not HTTP: begin the url with https://")]
    Tls,
    #[error("its headers are longer than {} KiB", MAX_HEAD_BYTES / 1024)]
    TooLong,
    #[error("it has a header that HTTP does not allow")]
    Malformed,
    #[error("its Content-Length is no number")]
    NoLength,
    #[error("it gives different lengths for itself (Content-Length): its end is unknown")]
    TwoLengths,
}

/// Where an answer ends (RFC 9112, section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// With its head, even if that gives a length.
    Head,
    /// This many bytes after its head.
    Length(u64),
    Chunked,
    /// When the connection closes.
    Close,
}

impl HeadReader {
    /// Whether nothing of an answer has arrived yet.
    pub(super) fn is_empty(&self) -> bool {
        self.come.is_empty() && self.interim_bytes == 0
    }

    /// Takes bytes; returns the head once it is complete. Interim answers (RFC 9110, section 15.2)
    /// are skipped.
    pub(super) fn push(&mut self, part: &[u8]) -> Result<Option<Head>, HeadError> {
        self.come.extend_from_slice(part);
        loop {
            // Skip an extra line end after the answer before (RFC 9112, section 2.2).
            let blank = self.come.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
            if blank > 0 && self.searched == 0 {
                self.come.drain(..blank);
                self.interim_bytes += blank;
            }
            is_beginning(&self.come)?;
            let end = self.end();
            if self.interim_bytes + end.unwrap_or(self.come.len()) > MAX_HEAD_BYTES {
                return Err(HeadError::TooLong);
            }
            let Some(end) = end else { return Ok(None) };
            let rest = self.come.split_off(end);
            let head = std::mem::replace(&mut self.come, rest);
            self.searched = 0;
            match parse(&head)? {
                // 101 is final: what follows is no longer HTTP.
                Head { status: 100 | 102..=199, .. } => self.interim_bytes += end,
                mut head => {
                    head.rest = std::mem::take(&mut self.come);
                    return Ok(Some(head));
                }
            }
        }
    }

    /// The position after the empty line that ends the head.
    fn end(&mut self) -> Option<usize> {
        let from = self.searched;
        let ends = |at: usize| match self.come.get(at..) {
            Some([b'\n', b'\n', ..]) => Some(at + 2),
            Some([b'\n', b'\r', b'\n', ..]) => Some(at + 3),
            _ => None,
        };
        let found = (from..self.come.len()).find_map(ends);
        self.searched = self.come.len().saturating_sub(2).max(from);
        found
    }
}

/// Checks that the bytes can become an HTTP/1 answer. Checked from the first byte, because a server
/// of another protocol may wait for us to speak.
fn is_beginning(come: &[u8]) -> Result<(), HeadError> {
    const VERSION: &[u8] = b"HTTP/1.";
    let fits = VERSION.iter().zip(come).all(|(wanted, byte)| wanted == byte);
    match come {
        _ if fits => Ok(()),
        // A TLS alert or handshake record (RFC 8446, section 5.1). Its first byte alone may be
        // anything's.
        [0x15 | 0x16] => Ok(()),
        [0x15 | 0x16, 3, ..] => Err(HeadError::Tls),
        _ => Err(HeadError::NotHttp),
    }
}

/// Parses a complete head.
fn parse(head: &[u8]) -> Result<Head, HeadError> {
    let mut head = Cow::Borrowed(head);
    const MINOR: usize = b"HTTP/1.".len();
    let minor = *head.get(MINOR).filter(|minor| minor.is_ascii_digit()).ok_or(HeadError::NotHttp)?;
    // A higher minor version is read as the highest known one (RFC 9110, section 2.5).
    if minor > b'1' {
        head.to_mut()[MINOR] = b'1';
    }
    let lines = head.iter().filter(|byte| **byte == b'\n').count();
    let mut headers = vec![httparse::EMPTY_HEADER; lines];
    let mut answer = httparse::Response::new(&mut headers);
    let mut config = ParserConfig::default();
    config.allow_spaces_after_header_name_in_responses(true);
    config.allow_obsolete_multiline_headers_in_responses(true);
    config.allow_multiple_spaces_in_response_status_delimiters(true);
    let status = match config.parse_response(&mut answer, &head) {
        Ok(Status::Complete(_)) => answer.code.ok_or(HeadError::NotHttp)?,
        Ok(Status::Partial) | Err(httparse::Error::Status | httparse::Error::Version) => {
            return Err(HeadError::NotHttp);
        }
        Err(_) => return Err(HeadError::Malformed),
    };
    // An interim answer ends with its head; its headers are ignored.
    if matches!(status, 100 | 102..=199) {
        return Ok(Head { status, end: End::Head, bytes: Vec::new(), rest: Vec::new() });
    }
    let end = end_of(status, answer.headers)?;
    // Rewritten: one kind of line end, no folded lines, no headers that awc does not need.
    let version = if end == End::Close { "HTTP/1.0" } else { "HTTP/1.1" };
    let mut bytes = format!("{version} {status} \r\n").into_bytes();
    match end {
        End::Length(length) => bytes.extend(format!("content-length: {length}\r\n").bytes()),
        End::Chunked => bytes.extend(b"transfer-encoding: chunked\r\n"),
        End::Head | End::Close => {}
    }
    if !persists(status, minor > b'0', answer.headers) {
        bytes.extend(b"connection: close\r\n");
    }
    for name in KEPT_HEADERS {
        // Only the first of each name: awc accepts at most 96 headers.
        let mut named = answer.headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name));
        let Some(header) = named.next() else { continue };
        bytes.extend(name.bytes());
        bytes.extend(b": ");
        // A folded line becomes one line with spaces (RFC 9112, section 5.2).
        let unfold = |byte: &u8| if matches!(byte, b'\r' | b'\n') { b' ' } else { *byte };
        bytes.extend(header.value.iter().map(unfold));
        bytes.extend(b"\r\n");
    }
    bytes.extend(b"\r\n");
    Ok(Head { status, end, bytes, rest: Vec::new() })
}

/// The members of the lists in all headers of this name.
fn members<'a>(headers: &'a [Header<'_>], name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    let named = headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name));
    named.flat_map(|header| header.value.split(|byte| *byte == b',')).map(<[u8]>::trim_ascii)
}

/// The transfer codings. `identity` means none; it is from the earlier RFC 7230.
fn codings<'a>(headers: &'a [Header<'_>]) -> impl Iterator<Item = &'a [u8]> {
    let codings = members(headers, "transfer-encoding");
    codings.filter(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case(b"identity"))
}

fn end_of(status: u16, headers: &[Header<'_>]) -> Result<End, HeadError> {
    if has_no_body(status) {
        return Ok(End::Head);
    }
    // Another protocol follows until the connection closes.
    if status == 101 {
        return Ok(End::Close);
    }
    if let Some(last) = codings(headers).last() {
        return Ok(if last.eq_ignore_ascii_case(b"chunked") { End::Chunked } else { End::Close });
    }
    let mut length = None;
    for member in members(headers, "content-length") {
        let digits = Some(member).filter(|member| member.iter().all(u8::is_ascii_digit));
        let number = digits.and_then(|digits| std::str::from_utf8(digits).ok()?.parse::<u64>().ok());
        let number = number.ok_or(HeadError::NoLength)?;
        if length.is_some_and(|length| length != number) {
            return Err(HeadError::TwoLengths);
        }
        length = Some(number);
    }
    Ok(length.map_or(End::Close, End::Length))
}

/// Whether the status excludes a body, whatever the headers say (RFC 9112, section 6.3).
fn has_no_body(status: u16) -> bool {
    matches!(status, 204 | 304)
}

/// Whether the connection can be used for another request (RFC 9112, section 9.3). Not if the
/// endpoint closes it, or may see the end of this answer elsewhere than we do.
fn persists(status: u16, is_current: bool, headers: &[Header<'_>]) -> bool {
    let asks = |option: &[u8]| members(headers, "connection").any(|one| one.eq_ignore_ascii_case(option));
    let is_coded = codings(headers).next().is_some();
    let has_length = members(headers, "content-length").any(|length| length != b"0");
    let is_doubtful = match has_no_body(status) {
        true => is_coded || (has_length && status != 304),
        false => is_coded && (has_length || !is_current),
    };
    !asks(b"close") && (is_current || asks(b"keep-alive")) && !is_doubtful
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Parses a text given in one piece.
    fn read(text: &str) -> Result<Option<String>, HeadError> {
        let head = HeadReader::default().push(text.as_bytes())?;
        Ok(head.map(|head| String::from_utf8([head.bytes, head.rest].concat()).unwrap()))
    }

    /// The head that awc gets, its lines joined by `|`.
    fn form(text: &str) -> String {
        let whole = read(text).unwrap().unwrap();
        let lines =
            whole.trim_end().split("\r\n").map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
        lines.collect::<Vec<_>>().join("|")
    }

    #[test]
    fn an_answer_ends_where_the_rfc_says() {
        for (given, expected) in [
            ("HTTP/1.1 200 OK\r\ncontent-length: 2", "HTTP/1.1 200|content-length: 2"),
            ("HTTP/1.0 200 OK\r\nContent-Length: 0", "HTTP/1.1 200|content-length: 0|connection: close"),
            (
                "HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: Keep-Alive",
                "HTTP/1.1 200|content-length: 0",
            ),
            ("HTTP/1.0 200 OK", "HTTP/1.0 200|connection: close"),
            ("HTTP/1.1 200", "HTTP/1.0 200"),
            ("HTTP/1.1 503 No\r\nConnection: x, close", "HTTP/1.0 503|connection: close"),
            ("HTTP/1.2 200 OK\r\ncontent-length: 2", "HTTP/1.1 200|content-length: 2"),
            ("HTTP/1.9 200 OK\r\ncontent-length: 2", "HTTP/1.1 200|content-length: 2"),
            ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\nContent-Length: 2", "HTTP/1.1 200|content-length: 2"),
            ("HTTP/1.1 200 OK\r\ncontent-length: 2, 2", "HTTP/1.1 200|content-length: 2"),
            ("HTTP/1.1 200 OK\r\nContent-Length : 2", "HTTP/1.1 200|content-length: 2"),
            ("HTTP/1.1 200 OK\r\nx: a\r\n b\r\n\tc\r\ncontent-length: 2", "HTTP/1.1 200|content-length: 2"),
            (
                "HTTP/1.1 200 OK\r\nserver: a\r\n b\r\ncontent-length: 0",
                "HTTP/1.1 200|content-length: 0|server: a b",
            ),
            ("HTTP/1.1 304 Not\r\ncontent-length: 9", "HTTP/1.1 304"),
            ("HTTP/1.1 204 No\r\ncontent-length: 0", "HTTP/1.1 204"),
            ("HTTP/1.1 204 No\r\ncontent-length: 9", "HTTP/1.1 204|connection: close"),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked", "HTTP/1.1 200|transfer-encoding: chunked"),
            (
                "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked",
                "HTTP/1.1 200|transfer-encoding: chunked",
            ),
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: gzip", "HTTP/1.0 200"),
            (
                "HTTP/1.1 200 OK\r\ntransfer-encoding: identity\r\ncontent-length: 3",
                "HTTP/1.1 200|content-length: 3",
            ),
            (
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 3",
                "HTTP/1.1 200|transfer-encoding: chunked|connection: close",
            ),
        ] {
            assert_eq!(form(&format!("{given}\r\n\r\n")), expected, "{given}");
            // Bare line feeds end lines too (RFC 9112, section 2.2).
            assert_eq!(form(&format!("{}\n\n", given.replace("\r\n", "\n"))), expected, "{given}");
        }
        let many = "x-more: 1\r\n".repeat(4000);
        assert_eq!(form(&format!("HTTP/1.1 200 OK\r\n{many}date: x\r\n\r\n")), "HTTP/1.0 200|date: x");
    }

    #[test]
    fn what_is_no_answer_is_told_from_one_that_is_not_whole() {
        use HeadError::{Malformed, NoLength, NotHttp, Tls, TooLong, TwoLengths};
        let huge = format!("HTTP/1.1 200 OK\r\nx: {}", "x".repeat(MAX_HEAD_BYTES));
        for (given, expected) in [
            ("SSH-2.0-OpenSSH", NotHttp),
            ("HTTP/2 200 OK\r\n\r\n", NotHttp),
            ("HTTP/1.x 200 OK\r\n\r\n", NotHttp),
            ("HTTP/1.10 200 OK\r\n\r\n", NotHttp),
            ("HTTP/1.1 OK\r\n\r\n", NotHttp),
            ("\u{15}\u{3}\u{3}", Tls),
            ("HTTP/1.1 200 OK\r\nx\0: y\r\n\r\n", Malformed),
            ("HTTP/1.1 200 OK\r\nno colon\r\n\r\n", Malformed),
            ("HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n", TwoLengths),
            ("HTTP/1.1 200 OK\r\ncontent-length: 1, 2\r\n\r\n", TwoLengths),
            ("HTTP/1.1 200 OK\r\ncontent-length: +1\r\n\r\n", NoLength),
            ("HTTP/1.1 200 OK\r\ncontent-length: \r\n\r\n", NoLength),
            ("HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999\r\n\r\n", NoLength),
            (&huge, TooLong),
        ] {
            assert_eq!(read(given), Err(expected), "{given:.60}");
        }
        for given in ["", "H", "HTTP/1.", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\nx: y\r\n\r", "\r\n"] {
            assert_eq!(read(given), Ok(None), "{given}");
        }
    }

    #[test]
    fn interim_answers_are_passed_over() {
        let interim = "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n";
        assert_eq!(read(interim), Ok(None));
        let (hundred, answer) =
            ("HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\nrest");
        let whole = read(&format!("{interim}{hundred}{answer}")).unwrap().unwrap();
        assert_eq!(whole, "HTTP/1.1 500 \r\ncontent-length: 0\r\n\r\nrest");
        assert!(form("HTTP/1.1 101 Switching\r\nupgrade: x\r\n\r\n").contains(" 101"));
        let without_end = interim.repeat(MAX_HEAD_BYTES / interim.len() + 1);
        assert_eq!(read(&without_end), Err(HeadError::TooLong));
    }

    #[test]
    fn what_begins_as_tls_is_known_by_its_second_byte() {
        for (bytes, what) in [(b"\x16\xe5", HeadError::NotHttp), (b"\x15\x03", HeadError::Tls)] {
            assert_eq!(HeadReader::default().push(bytes), Err(what));
            let mut cut = HeadReader::default();
            assert_eq!(cut.push(&bytes[..1]), Ok(None));
            assert_eq!(cut.push(&bytes[1..]), Err(what));
        }
    }

    proptest! {
        #[test]
        fn how_it_is_cut_into_pieces_makes_no_difference(
            heads in prop::collection::vec(
                prop::sample::select(vec![
                    "\r\n", "HTTP/1.1 100 \r\n\r\n", "HTTP/1.1 200 OK\r\n",
                    "HTTP/1.0 204 No\n", "content-length: 3\r\n",
                    "date: a\r\n b\n", "server: \r\n", "transfer-encoding: chunked\r\n",
                    "\r\n", "\n", "abc", "x\0\r\n",
                ]),
                0..9,
            ),
            cuts in prop::collection::vec(1usize..9, 0..60),
        ) {
            let text = heads.concat();
            let whole = HeadReader::default().push(text.as_bytes());
            let (mut reader, mut rest, mut cut) = (HeadReader::default(), text.as_bytes(), Ok(None));
            for length in cuts.into_iter().chain([usize::MAX]) {
                let (part, left) = rest.split_at(length.min(rest.len()));
                rest = left;
                cut = reader.push(part);
                if cut != Ok(None) {
                    break;
                }
            }
            if let Ok(Some(head)) = &mut cut {
                head.rest.extend(rest);
            }
            prop_assert_eq!(cut, whole);
        }

        #[test]
        fn no_bytes_bring_it_down(
            parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..9),
        ) {
            let mut reader = HeadReader::default();
            let _ = reader.push(b"HTTP/1.1 200 ");
            for part in parts {
                let _ = reader.push(&part);
            }
        }
    }
}
