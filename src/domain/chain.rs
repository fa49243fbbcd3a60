//! An error with its causes, in one text. Each of our errors says only its own part, and names its cause by `source`.

use std::error::Error;
use std::fmt;

/// `error` and its causes, each after a colon: `cannot read a.json: No such file or directory`. This is how an error is
/// printed and logged.
///
/// Errors of other crates often end with the text of their cause. Such a cause is not told twice.
pub fn chain<'e>(error: &'e (dyn Error + 'e)) -> Chain<'e> {
    Chain(error)
}

/// What [`chain`] returns.
pub struct Chain<'e>(&'e (dyn Error + 'e));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut told = self.0.to_string();
        let mut cause = self.0.source();
        while let Some(error) = cause {
            let text = error.to_string();
            if !told.ends_with(&text) {
                told = format!("{told}: {text}");
            }
            cause = error.source();
        }
        f.write_str(&told)
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    enum Example {
        #[error("cannot start")]
        Ours(#[source] Box<Example>),
        #[error("cannot read the file: {0}")]
        Repeats(#[from] io::Error),
        #[error(transparent)]
        Passed(Box<Example>),
    }

    #[test]
    fn every_cause_is_told_once() {
        let repeats = || Box::new(Example::Repeats(io::Error::other("it is gone")));
        assert_eq!(chain(&io::Error::other("it is gone")).to_string(), "it is gone");
        assert_eq!(chain(&*repeats()).to_string(), "cannot read the file: it is gone");
        let ours = Example::Ours(Box::new(Example::Passed(repeats())));
        assert_eq!(chain(&ours).to_string(), "cannot start: cannot read the file: it is gone");
    }
}
