//! Puts the mutants of a file behind switches.
//!
//! The source stays as it is; text is only inserted. What an expression is replaced by stands beside it in a `match`, the
//! expression itself first, so that it decides the type.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use proc_macro2::Span;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{BinOp, Expr, Pat};

use crate::list::Mutant;

/// The module of the mutated sources that says which mutant is on. With `POSTCALL_MUTANT_REACHED=FILE`, each process adds a line
/// with the number of a mutant to the file when it comes to its switch for the first time. Each line is written at once, and so it
/// is there whatever becomes of the process.
pub const MODULE: &str = "
use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::sync::{LazyLock, Mutex};

static CHOSEN: LazyLock<u32> =
    LazyLock::new(|| std::env::var(\"POSTCALL_MUTANT\").map_or(0, |number| number.parse().expect(\"a number\")));
static REACHED: LazyLock<Option<Mutex<(File, HashSet<u32>)>>> = LazyLock::new(|| {
    let path = std::env::var_os(\"POSTCALL_MUTANT_REACHED\")?;
    Some(Mutex::new((OpenOptions::new().append(true).open(path).ok()?, HashSet::new())))
});

/// The mutant that is on, of those whose switch this is; 0 is none, and any other number none of these.
pub fn chosen(numbers: &[u32]) -> u32 {
    if let Some(reached) = &*REACHED {
        let (file, known) = &mut *reached.lock().unwrap_or_else(|broken| broken.into_inner());
        for number in numbers.iter().filter(|number| known.insert(**number)) {
            let _ = file.write_all(format!(\"{number}\\n\").as_bytes());
        }
    }
    *CHOSEN
}

/// Whether this mutant is on.
pub fn is(number: u32) -> bool {
    chosen(&[number]) == number
}
";

/// A file with its mutants behind switches.
pub struct Planted {
    /// Its text.
    pub text: String,
    /// Where in this text the mutants are.
    pub regions: Vec<Region>,
    /// The numbers of those that it has.
    pub numbers: HashSet<u32>,
    /// Those that cannot compile, whatever stands around them.
    pub not_viable: Vec<u32>,
}

/// A part of the text that is there because of mutants.
pub struct Region {
    /// Its bytes.
    pub bytes: Range<usize>,
    /// The mutants.
    pub numbers: Vec<u32>,
    /// Whether this is what one mutant puts there; otherwise, it is all that has a switch around it.
    pub replacement: bool,
}

/// Text that is inserted, and the mutant whose replacement it is.
type Piece = (String, Option<u32>);

struct Switch {
    bytes: Range<usize>,
    before: Vec<Piece>,
    after: Vec<Piece>,
    numbers: Vec<u32>,
}

/// Puts these mutants of a file behind switches: those that stand where a switch can be.
pub fn plant(source: &str, mutants: &[&Mutant]) -> syn::Result<Planted> {
    let mut wanted: HashMap<_, Vec<_>> = HashMap::new();
    for mutant in mutants {
        wanted.entry((mutant.genre.as_str(), mutant.start)).or_default().push(*mutant);
    }
    let mut finder = Finder { source, wanted, switches: Vec::new(), not_viable: Vec::new() };
    finder.visit_file(&syn::parse_file(source)?);
    Ok(Planted { not_viable: finder.not_viable, ..insert(source, &finder.switches) })
}

/// Switches are in the order of their beginnings, outer ones before inner ones.
fn insert(source: &str, switches: &[Switch]) -> Planted {
    let mut events: Vec<(usize, bool, isize, usize)> = Vec::new();
    for (index, switch) in switches.iter().enumerate() {
        let order = index as isize;
        events.push((switch.bytes.start, true, order, index));
        if !switch.after.is_empty() {
            events.push((switch.bytes.end, false, -order, index));
        }
    }
    events.sort_unstable();
    let mut planted =
        Planted { text: String::new(), regions: Vec::new(), numbers: HashSet::new(), not_viable: Vec::new() };
    let mut begun = vec![0; switches.len()];
    let mut copied = 0;
    for (place, opens, _, index) in events {
        planted.text.push_str(&source[copied..place]);
        copied = place;
        let switch = &switches[index];
        if opens {
            begun[index] = planted.text.len();
        }
        for (text, number) in if opens { &switch.before } else { &switch.after } {
            let start = planted.text.len();
            planted.text.push_str(text);
            let bytes = start..planted.text.len();
            planted.regions.extend(number.map(|number| Region { bytes, numbers: vec![number], replacement: true }));
        }
        if !opens || switch.after.is_empty() {
            let bytes = begun[index]..planted.text.len();
            planted.regions.push(Region { bytes, numbers: switch.numbers.clone(), replacement: false });
            planted.numbers.extend(&switch.numbers);
        }
    }
    planted.text.push_str(&source[copied..]);
    planted
}

struct Finder<'a> {
    source: &'a str,
    wanted: HashMap<(&'a str, (usize, usize)), Vec<&'a Mutant>>,
    switches: Vec<Switch>,
    not_viable: Vec<u32>,
}

impl<'a> Finder<'a> {
    fn take(&mut self, genre: &'static str, span: Span) -> Vec<&'a Mutant> {
        let start = span.start();
        self.wanted.remove(&(genre, (start.line, start.column + 1))).unwrap_or_default()
    }

    fn text(&self, bytes: Range<usize>) -> &'a str {
        &self.source[bytes]
    }

    /// A `match` around an expression: the expression, if none of its mutants is on, and what stands there instead for each.
    fn choose(&mut self, whole: Span, mut choices: Vec<(u32, String)>) {
        if choices.is_empty() {
            return;
        }
        choices.sort_unstable();
        let numbers: Vec<u32> = choices.iter().map(|(number, _)| *number).collect();
        let before = vec![(format!("(match crate::mutant::chosen(&{numbers:?}) {{ {} => ", all_but(&numbers)), None)];
        let mut after = Vec::new();
        for (number, text) in choices {
            after.push((format!(", {number} => "), None));
            after.push((text, Some(number)));
        }
        after.push((" })".to_owned(), None));
        self.switches.push(Switch { bytes: whole.byte_range(), before, after, numbers });
    }

    fn function(&mut self, block: &syn::Block) {
        let Some(first) = block.stmts.first() else { return };
        let mutants = self.take("FnValue", first.span());
        let at = first.span().byte_range().start;
        let mut before = Vec::new();
        let mut numbers = Vec::new();
        for mutant in mutants.iter().filter(|mutant| !mutant.hidden_type) {
            before.push((format!("if crate::mutant::is({}) {{ return ", mutant.number), None));
            before.push((mutant.replacement.clone(), Some(mutant.number)));
            before.push(("; } ".to_owned(), None));
            numbers.push(mutant.number);
        }
        if !before.is_empty() {
            self.switches.push(Switch { bytes: at..at, before, after: Vec::new(), numbers });
        }
    }

    fn operator(&mut self, whole: &syn::ExprBinary) {
        let mutants = self.take("BinaryOperator", whole.op.span());
        let logical = matches!(whole.op, BinOp::And(_) | BinOp::Or(_));
        if logical && (binds(&whole.left) || binds(&whole.right)) {
            // The only other operator is `||`, below which no `let` can be.
            self.not_viable.extend(mutants.iter().map(|mutant| mutant.number));
            return;
        }
        let bytes = whole.span().byte_range();
        let operator = whole.op.span().byte_range();
        let (left, right) = (self.text(bytes.start..operator.start), self.text(operator.end..bytes.end));
        let changed = |mutant: &&Mutant| (mutant.number, format!("{left}{}{right}", mutant.replacement));
        self.choose(whole.span(), mutants.iter().map(changed).collect());
    }

    fn arm(&mut self, arm: &syn::Arm) {
        let deleted = self.take("MatchArm", arm.span());
        let guard = arm.guard.as_ref().map(|(_, guard)| guard.as_ref());
        for mutant in deleted {
            let off = format!("!crate::mutant::is({})", mutant.number);
            let (bytes, before, after) = match guard {
                None => {
                    let end = arm.pat.span().byte_range().end;
                    (end..end, format!(" if {off}"), "")
                }
                // A `let` cannot stand in parentheses, and needs none.
                Some(guard) if binds(guard) => (guard.span().byte_range(), format!("{off} && "), " "),
                Some(guard) => (guard.span().byte_range(), format!("{off} && ("), ")"),
            };
            let before = vec![(before, Some(mutant.number))];
            let after = if after.is_empty() { Vec::new() } else { vec![(after.to_owned(), None)] };
            self.switches.push(Switch { bytes, before, after, numbers: vec![mutant.number] });
        }
        if let Some(guard) = guard {
            let mutants = self.take("MatchArmGuard", guard.span());
            if !binds(guard) {
                let changed = |mutant: &&Mutant| (mutant.number, mutant.replacement.clone());
                self.choose(guard.span(), mutants.iter().map(changed).collect());
            }
        }
    }

    fn fields(&mut self, whole: &syn::ExprStruct) {
        let bytes = whole.span().byte_range();
        let mut choices = Vec::new();
        for pair in whole.fields.pairs() {
            let field = pair.value().span();
            let end = pair.punct().map_or(field.byte_range().end, |comma| comma.span().byte_range().end);
            let (head, tail) = (self.text(bytes.start..field.byte_range().start), self.text(end..bytes.end));
            let without = |mutant: &Mutant| (mutant.number, format!("{head}{tail}"));
            choices.extend(self.take("StructField", field).into_iter().map(without));
        }
        self.choose(whole.span(), choices);
    }
}

/// The pattern of all numbers but these, which are sorted.
fn all_but(numbers: &[u32]) -> String {
    let mut ranges = vec![format!("..{}", numbers[0])];
    let gaps = numbers.windows(2).filter(|pair| pair[1] > pair[0] + 1);
    ranges.extend(gaps.map(|pair| format!("{}..{}", pair[0] + 1, pair[1])));
    ranges.push(format!("{}..", numbers[numbers.len() - 1] + 1));
    ranges.join(" | ")
}

/// Whether a condition binds names by `let`.
fn binds(condition: &Expr) -> bool {
    match condition {
        Expr::Let(_) => true,
        Expr::Binary(both) => binds(&both.left) || binds(&both.right),
        _ => false,
    }
}

/// What is evaluated when the program is compiled cannot have a switch, so nothing in it is visited: constants, the lengths in
/// types, the arguments of generics, patterns, attributes.
impl<'ast> Visit<'ast> for Finder<'_> {
    fn visit_item_const(&mut self, _: &'ast syn::ItemConst) {}
    fn visit_item_static(&mut self, _: &'ast syn::ItemStatic) {}
    fn visit_impl_item_const(&mut self, _: &'ast syn::ImplItemConst) {}
    fn visit_trait_item_const(&mut self, _: &'ast syn::TraitItemConst) {}
    fn visit_expr_const(&mut self, _: &'ast syn::ExprConst) {}
    fn visit_variant(&mut self, _: &'ast syn::Variant) {}
    fn visit_type(&mut self, _: &'ast syn::Type) {}
    fn visit_path(&mut self, _: &'ast syn::Path) {}
    fn visit_angle_bracketed_generic_arguments(&mut self, _: &'ast syn::AngleBracketedGenericArguments) {}
    fn visit_pat(&mut self, _: &'ast syn::Pat) {}
    fn visit_attribute(&mut self, _: &'ast syn::Attribute) {}

    fn visit_expr_repeat(&mut self, repeat: &'ast syn::ExprRepeat) {
        self.visit_expr(&repeat.expr);
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        if item.sig.constness.is_none() {
            self.function(&item.block);
            visit::visit_item_fn(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        if item.sig.constness.is_none() {
            self.function(&item.block);
            visit::visit_impl_item_fn(self, item);
        }
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        if let Some(block) = item.default.as_ref().filter(|_| item.sig.constness.is_none()) {
            self.function(block);
            visit::visit_trait_item_fn(self, item);
        }
    }

    fn visit_expr_binary(&mut self, whole: &'ast syn::ExprBinary) {
        self.operator(whole);
        visit::visit_expr_binary(self, whole);
    }

    fn visit_expr_unary(&mut self, whole: &'ast syn::ExprUnary) {
        let mutants = self.take("UnaryOperator", whole.op.span());
        let operand = self.text(whole.expr.span().byte_range()).to_owned();
        self.choose(whole.span(), mutants.iter().map(|mutant| (mutant.number, operand.clone())).collect());
        visit::visit_expr_unary(self, whole);
    }

    fn visit_expr_match(&mut self, whole: &'ast syn::ExprMatch) {
        if !whole.arms.iter().any(|arm| arm.guard.is_none() && matches!(arm.pat, Pat::Wild(_))) {
            // An arm with a switch covers nothing, and here no other one covers the same.
            for arm in whole.arms.iter().filter(|arm| arm.guard.is_none()) {
                self.take("MatchArm", arm.span());
            }
        }
        visit::visit_expr_match(self, whole);
    }

    fn visit_arm(&mut self, arm: &'ast syn::Arm) {
        self.arm(arm);
        visit::visit_arm(self, arm);
    }

    fn visit_expr_struct(&mut self, whole: &'ast syn::ExprStruct) {
        self.fields(whole);
        visit::visit_expr_struct(self, whole);
    }
}
