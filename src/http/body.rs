//! Finds where the body of an answer ends on its connection (RFC 9112, sections 6 and 7.1): bytes
//! after it belong to no answer.

use super::head::End;

/// What is still to come of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// This many bytes.
    Left(u64),
    /// Chunks, at this position.
    Chunks(Chunks),
    /// Everything until the connection closes.
    Open,
}

/// The position within a chunked body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chunks {
    /// In the digits of a chunk's size; the size so far.
    Size(u64),
    /// In the rest of the size line; the chunk's size.
    Extension(u64),
    /// In the data of a chunk; the bytes that are left.
    Data(u64),
    /// In the line end after the data.
    DataEnd,
    /// In the lines after the last chunk; whether the current one is empty so far.
    Trailer(bool),
    /// After the body.
    Over,
}

impl Body {
    /// The body of an answer that ends at `end`.
    pub(super) fn of(end: End) -> Self {
        match end {
            End::Head => Self::Left(0),
            End::Length(length) => Self::Left(length),
            End::Chunked => Self::Chunks(Chunks::Size(0)),
            End::Close => Self::Open,
        }
    }

    /// How many of these next bytes belong to the body.
    pub(super) fn take(&mut self, bytes: &[u8]) -> usize {
        match self {
            Self::Open => bytes.len(),
            Self::Left(left) => {
                let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                *left -= taken as u64;
                taken
            }
            Self::Chunks(chunks) => chunks.take(bytes),
        }
    }
}

impl Chunks {
    fn take(&mut self, bytes: &[u8]) -> usize {
        let mut at = 0;
        while at < bytes.len() && *self != Self::Over {
            if let Self::Data(left) = self {
                let part = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len() - at);
                *left -= part as u64;
                at += part;
                if *left == 0 {
                    *self = Self::DataEnd;
                }
                continue;
            }
            *self = self.after(bytes[at]);
            at += 1;
        }
        at
    }

    /// The position after a byte that is not data. Malformed input is accepted here: awc reports it
    /// when it reads the body.
    fn after(self, byte: u8) -> Self {
        match (self, byte) {
            (Self::Size(0) | Self::Extension(0), b'\n') => Self::Trailer(true),
            (Self::Size(size) | Self::Extension(size), b'\n') => Self::Data(size),
            (Self::Size(size), byte) => match char::from(byte).to_digit(16) {
                Some(digit) => Self::Size(size.saturating_mul(16).saturating_add(digit.into())),
                None => Self::Extension(size),
            },
            (Self::DataEnd, b'\n') => Self::Size(0),
            (Self::Trailer(true), b'\n') => Self::Over,
            (Self::Trailer(_), b'\n') => Self::Trailer(true),
            (Self::Trailer(is_empty), byte) => Self::Trailer(is_empty && byte == b'\r'),
            (other, _) => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_body_ends_where_it_says() {
        for (end, bytes, of_it) in [
            (End::Head, "surplus", 0),
            (End::Length(2), "ok", 2),
            (End::Length(2), "ok<html>", 2),
            (End::Chunked, "2\r\nok\r\n0\r\n\r\nsurplus", 12),
            (End::Chunked, "2;x=y\r\nok\r\n0\r\nx: y\r\n\r\nsurplus", 22),
            (End::Chunked, "a\r\n\r\n\r\n\r\n\r\n\r\n\r\n0\r\n\r\nsurplus", 20),
            (End::Chunked, "2\r\no", 4),
            (End::Close, "all of it", 9),
        ] {
            assert_eq!(Body::of(end).take(bytes.as_bytes()), of_it, "{bytes}");
        }
    }

    proptest! {
        #[test]
        fn chunks_end_alike_however_they_are_cut(
            sizes in prop::collection::vec(1usize..40, 0..5),
            cuts in prop::collection::vec(1usize..20, 0..60),
        ) {
            let mut text = String::new();
            for size in sizes {
                text += &format!("{size:x}\r\n{}\r\n", "0\r\n\r\n".repeat(8).get(..size).unwrap());
            }
            text += "0\r\n\r\n";
            let (length, text) = (text.len(), text + "surplus");
            let (mut body, mut rest, mut taken) = (Body::of(End::Chunked), text.as_bytes(), 0);
            for cut in cuts.into_iter().chain([usize::MAX]) {
                let (part, left) = rest.split_at(cut.min(rest.len()));
                rest = left;
                taken += body.take(part);
            }
            prop_assert_eq!(taken, length);
        }
    }
}
