//! Why a rule gave no answer: it refused, or the store did not answer.

use crate::store::StoreError;
use std::borrow::Cow;
use uproar_proto::error::Code;

/// A refusal: nothing was written, and the caller is told why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) code: Code,
    pub(crate) text: Cow<'static, str>,
    /// When the same request may succeed; 0: the code alone tells.
    pub(crate) retry_after_ms: u32,
}

/// What stands in the place of an answer.
#[derive(Debug)]
pub(crate) enum Fault {
    Refused(Refusal),
    Store(StoreError),
}

impl Fault {
    /// A refusal with a text that says more than the table of codes.
    pub(crate) fn refused(code: Code, text: impl Into<Cow<'static, str>>) -> Fault {
        Fault::Refused(Refusal { code, text: text.into(), retry_after_ms: 0 })
    }

    /// `SLOW_DOWN`, with the time to wait.
    pub(crate) fn slow_down(retry_after_ms: u32) -> Fault {
        let text = "too many attempts; retry after the given time".into();
        Fault::Refused(Refusal { code: Code::SlowDown, text, retry_after_ms })
    }

    /// The code of a refusal.
    #[cfg(test)]
    pub(crate) fn code(&self) -> Option<Code> {
        match self {
            Fault::Refused(refusal) => Some(refusal.code),
            Fault::Store(_) => None,
        }
    }
}

impl From<Code> for Fault {
    fn from(code: Code) -> Fault {
        Fault::refused(code, code.text())
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Fault {
        Fault::Store(error)
    }
}
