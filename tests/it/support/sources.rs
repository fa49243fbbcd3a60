//! The program's own sources as tests read them: as tokens, so that neither comments nor texts count, and a path is found
//! however it is written.

use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};

/// The directory of the repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// One file of `src/`.
pub struct Source {
    /// Its path below `src/`, such as `store/mod.rs`.
    pub path: PathBuf,
    /// What stands in it.
    pub text: String,
}

/// A path in the code, such as `crate::store::Store`, and the line in which it ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodePath {
    /// Its segments. What leads to the crate's root is `crate`, however it is written.
    pub segments: Vec<String>,
    /// Counted from 1.
    pub line: usize,
}

/// All files of `src/`, in the order of their paths.
pub fn sources() -> Vec<Source> {
    let (mut found, mut directories) = (Vec::new(), vec![root().join("src")]);
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if entry.file_type().unwrap().is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                found.push(Source { path: path.strip_prefix(root().join("src")).unwrap().to_owned(), text });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

impl Source {
    /// The room that it belongs to: its directory below `src/`, or its own name.
    pub fn room(&self) -> String {
        let first = self.path.components().next().unwrap().as_os_str();
        Path::new(first).with_extension("").to_str().unwrap().to_owned()
    }

    /// Its tokens.
    pub fn tokens(&self) -> Vec<TokenTree> {
        let tokens: Result<TokenStream, _> = self.text.parse();
        tokens.unwrap_or_else(|error| panic!("src/{}: {error}", self.path.display())).into_iter().collect()
    }

    /// All its paths, those of single segments included, and the tests' own if `with_tests`.
    pub fn paths(&self, with_tests: bool) -> Vec<CodePath> {
        let stem = self.path.file_stem().unwrap();
        if stem == "tests" && !with_tests {
            return Vec::new();
        }
        // `lib.rs` and `main.rs` are roots themselves, and `mod.rs` is what its directory is.
        let own = usize::from(!["lib", "main", "mod"].iter().any(|name| stem == *name));
        let mut reader = Reader { with_tests, paths: Vec::new() };
        reader.read(&self.tokens(), self.path.components().count() - 1 + own);
        reader.paths
    }
}

struct Reader {
    with_tests: bool,
    paths: Vec<CodePath>,
}

impl Reader {
    /// Reads what stands so many modules below the crate's root.
    fn read(&mut self, tokens: &[TokenTree], depth: usize) {
        let mut rest = tokens;
        while let Some((first, after)) = rest.split_first() {
            rest = after;
            match first {
                TokenTree::Punct(hash) if hash.as_char() == '#' && !self.with_tests && is_of_tests(after) => {
                    rest = behind_item(after);
                }
                TokenTree::Ident(word) if *word == "mod" && braced(after.get(1)).is_some() => {
                    self.read(&braced(after.get(1)).map(inside).unwrap_or_default(), depth + 1);
                    rest = &after[2..];
                }
                TokenTree::Ident(_) => rest = self.path(&[], rest_from(tokens, after), depth),
                TokenTree::Group(group) => self.read(&inside(group), depth),
                TokenTree::Punct(_) | TokenTree::Literal(_) => {}
            }
        }
    }

    /// Reads the path with which `tokens` begin, and what is imported below it. Returns what is behind it.
    fn path<'a>(&mut self, prefix: &[String], tokens: &'a [TokenTree], depth: usize) -> &'a [TokenTree] {
        let (mut segments, mut rest, mut line) = (prefix.to_vec(), tokens, 0);
        while let Some((TokenTree::Ident(word), after)) = rest.split_first() {
            segments.push(word.to_string());
            (line, rest) = (word.span().start().line, after);
            let Some(behind) = behind_colons(after) else { break };
            if let Some(group) = braced(behind.first()) {
                for piece in inside(group).split(|token| is_punct(token, ',')) {
                    self.path(&segments, piece, depth);
                }
                return &behind[1..];
            }
            rest = behind;
        }
        if segments.len() > prefix.len() {
            self.paths.push(CodePath { segments: from_root(segments, depth), line });
        }
        rest
    }
}

/// The path with what leads up to the crate's root replaced by `crate`.
fn from_root(segments: Vec<String>, depth: usize) -> Vec<String> {
    let up = segments.iter().skip_while(|one| *one == "self").take_while(|one| *one == "super").count();
    if up == 0 || up < depth {
        return segments;
    }
    let below = segments.into_iter().skip_while(|one| *one == "self" || *one == "super");
    std::iter::once("crate".to_owned()).chain(below).collect()
}

/// `tokens` from one before `after` on.
fn rest_from<'a>(tokens: &'a [TokenTree], after: &[TokenTree]) -> &'a [TokenTree] {
    &tokens[tokens.len() - after.len() - 1..]
}

fn inside(group: &Group) -> Vec<TokenTree> {
    group.stream().into_iter().collect()
}

fn braced(token: Option<&TokenTree>) -> Option<&Group> {
    match token {
        Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => Some(group),
        _ => None,
    }
}

/// Whether it is this sign.
pub fn is_punct(token: &TokenTree, sign: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == sign)
}

/// What stands behind `::`, if that is what `tokens` begin with.
fn behind_colons(tokens: &[TokenTree]) -> Option<&[TokenTree]> {
    tokens.iter().take(2).filter(|token| is_punct(token, ':')).count().eq(&2).then(|| &tokens[2..])
}

/// Whether these are the brackets of `#[cfg(test)]`.
fn is_of_tests(tokens: &[TokenTree]) -> bool {
    matches!(tokens.first(), Some(TokenTree::Group(group)) if group.to_string().replace(' ', "") == "[cfg(test)]")
}

/// What stands behind the item that begins there.
fn behind_item(tokens: &[TokenTree]) -> &[TokenTree] {
    let end = tokens.iter().position(|token| braced(Some(token)).is_some() || is_punct(token, ';'));
    end.map_or(&[], |end| &tokens[end + 1..])
}
