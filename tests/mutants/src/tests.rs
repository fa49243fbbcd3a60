//! What must hold of the switches, with a small program that is compiled once and run with each of its mutants.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::list::Mutant;
use crate::plant::{MODULE, plant};
use crate::reach::{self, Test};

/// The mark before the place of each mutant is taken out of the source.
const SOURCE: &str = r#"
#[derive(Clone, Default)]
struct Pair { left: u32, right: u32 }
const fn fixed(a: u32) -> u32 { a @1+ 1 }
const LENGTH: usize = 1 @2+ 1;
fn named() -> u32 { @3let x = 7; x }
fn less(a: u32, b: u32) -> bool { a @4< b }
fn sum(a: u32, b: u32, c: u32) -> u32 { a @5+ b @6* c }
fn grown(mut a: u32) -> u32 { a @7+= 2; a }
fn not(a: bool) -> bool { @8!a }
fn arms(a: u32) -> &'static str {
    match a {
        @91 => "one",
        @A2 if @Ba @C== 2 => "two",
        _ => "many",
    }
}
fn bound(a: Option<u32>) -> bool { if a.is_some() @D&& let Some(1) = a { true } else { false } }
fn pair(base: &Pair) -> Pair { Pair { @Eleft: 5, ..base.clone() } }
fn whole(a: Option<u32>) -> u32 { match a { @FNone => 0, Some(b) => b } }
fn main() {
    let pair = pair(&Pair { left: 3, right: 4 });
    println!(
        "{} {} {} {} {} {} {} {}{}{} {} {} {}{}", fixed(1), LENGTH, named(), less(1, 1), sum(2, 3, 4), grown(3), not(true),
        arms(1), arms(2), arms(3), bound(Some(1)), whole(None), pair.left, pair.right,
    );
}
"#;

/// What each mutant replaces, and what the program then prints; nothing if it cannot have a switch.
const MUTANTS: [(char, &str, &str, Option<&str>); 15] = [
    ('1', "BinaryOperator", "-", None),
    ('2', "BinaryOperator", "-", None),
    ('3', "FnValue", "8", Some("2 2 8 false 14 5 false onetwomany true 0 54")),
    ('4', "BinaryOperator", "<=", Some("2 2 7 true 14 5 false onetwomany true 0 54")),
    ('5', "BinaryOperator", "*", Some("2 2 7 false 24 5 false onetwomany true 0 54")),
    ('6', "BinaryOperator", "+", Some("2 2 7 false 9 5 false onetwomany true 0 54")),
    ('7', "BinaryOperator", "*=", Some("2 2 7 false 14 6 false onetwomany true 0 54")),
    ('8', "UnaryOperator", "", Some("2 2 7 false 14 5 true onetwomany true 0 54")),
    ('9', "MatchArm", "", Some("2 2 7 false 14 5 false manytwomany true 0 54")),
    ('A', "MatchArm", "", Some("2 2 7 false 14 5 false onemanymany true 0 54")),
    ('B', "MatchArmGuard", "false", Some("2 2 7 false 14 5 false onemanymany true 0 54")),
    ('C', "BinaryOperator", "!=", Some("2 2 7 false 14 5 false onemanymany true 0 54")),
    ('D', "BinaryOperator", "||", None),
    ('E', "StructField", "", Some("2 2 7 false 14 5 false onetwomany true 0 34")),
    ('F', "MatchArm", "", None),
];
const UNCHANGED: &str = "2 2 7 false 14 5 false onetwomany true 0 54";

/// The source without marks, and its mutants.
fn marked() -> (String, Vec<Mutant>) {
    let mut source = String::new();
    let mut mutants = Vec::new();
    let mut parts = SOURCE.split('@');
    source.push_str(parts.next().unwrap());
    for (number, part) in (1..).zip(parts) {
        let (mark, genre, replacement, _) = MUTANTS[number as usize - 1];
        let line = source.lines().count() + usize::from(source.ends_with('\n'));
        let column = source.len() - source.rfind('\n').unwrap();
        assert!(part.starts_with(mark));
        mutants.push(Mutant {
            number,
            name: mark.to_string(),
            file: String::new(),
            genre: genre.to_owned(),
            replacement: replacement.to_owned(),
            start: (line, column),
            hidden_type: false,
        });
        source.push_str(&part[1..]);
    }
    (source, mutants)
}

/// A directory that is deleted in the end.
struct Directory(PathBuf);

impl Directory {
    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A directory with the program of this text in it.
fn compiled(text: &str) -> Directory {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = format!("postcall-mutants-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let directory = Directory(std::env::temp_dir().join(name));
    std::fs::create_dir_all(directory.path()).unwrap();
    let (source, program) = (directory.path().join("main.rs"), directory.path().join("main"));
    std::fs::write(&source, format!("#![allow(warnings)]\n{text}\nmod mutant {{ {MODULE} }}\n")).unwrap();
    let compiled = Command::new("rustc").args(["--edition=2024", "-o"]).arg(&program).arg(&source).status().unwrap();
    assert!(compiled.success(), "{text}");
    directory
}

/// What the program prints with each mutant, and first without one.
fn printed(program: &Path) -> Vec<String> {
    let with = |number: usize| {
        let output = Command::new(program).env("POSTCALL_MUTANT", number.to_string()).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    };
    (0..=MUTANTS.len()).map(with).collect()
}

#[test]
fn each_switch_makes_its_mistake_and_no_other_one() {
    let (source, mutants) = marked();
    let planted = plant(&source, &mutants.iter().collect::<Vec<_>>()).unwrap();
    let directory = compiled(&planted.text);
    let said = printed(&directory.path().join("main"));
    assert_eq!(said[0], UNCHANGED);
    for (mutant, (mark, _, _, expected)) in mutants.iter().zip(MUTANTS) {
        assert_eq!(planted.numbers.contains(&mutant.number), expected.is_some(), "{mark} has a switch");
        assert_eq!(said[mutant.number as usize], expected.unwrap_or(UNCHANGED), "{mark}");
    }
}

#[test]
fn each_replacement_is_where_the_errors_of_the_compiler_are_looked_for() {
    let (source, mutants) = marked();
    let planted = plant(&source, &mutants.iter().collect::<Vec<_>>()).unwrap();
    for region in planted.regions.iter().filter(|region| region.replacement) {
        let mutant = &mutants[region.numbers[0] as usize - 1];
        assert!(planted.text[region.bytes.clone()].contains(&mutant.replacement), "{}", mutant.name);
    }
}

#[test]
fn each_process_writes_down_once_the_switches_to_which_it_comes() {
    let (source, mutants) = marked();
    let planted = plant(&source, &mutants.iter().collect::<Vec<_>>()).unwrap();
    let directory = compiled(&planted.text);
    let reached = directory.path().join("reached");
    std::fs::write(&reached, "").unwrap();
    // Neither without a mutant nor with the fourth one is there a switch to which the program does not come.
    for number in ["0", "4"] {
        let mut program = Command::new(directory.path().join("main"));
        program.env("POSTCALL_MUTANT", number).env("POSTCALL_MUTANT_REACHED", &reached);
        assert!(program.output().unwrap().status.success());
    }
    let text = std::fs::read_to_string(&reached).unwrap();
    let mut numbers: Vec<u32> = text.lines().map(|line| line.parse().unwrap()).collect();
    numbers.sort_unstable();
    let mut twice: Vec<u32> = planted.numbers.iter().flat_map(|number| [*number; 2]).collect();
    twice.sort_unstable();
    assert_eq!(numbers, twice);
}

#[test]
fn a_mutant_is_known_by_its_name_where_its_place_has_moved() {
    let (_, mut mutants) = marked();
    for (name, expected) in
        [("src/a/b.rs:12:5: replace A::b -> C with d", "src/a/b.rs: replace A::b -> C with d"), ("x", "x")]
    {
        mutants[0].name = name.to_owned();
        assert_eq!(mutants[0].without_place(), expected);
    }
    let shuffled = |names: [&'static str; 3]| {
        let mut names = names.to_vec();
        reach::shuffle(3, &mut names, |name| name.to_string());
        names
    };
    assert_eq!(shuffled(["same", "same", "other"]).len(), 3);
}

fn test(name: &str, seconds: f64, reached: &[u32]) -> Test {
    Test { unit: false, name: name.to_owned(), passed: true, seconds, reached: reached.to_vec() }
}

#[test]
fn a_line_of_the_table_of_tests_is_read_as_it_was_written() {
    for written in [test("a::b", 1.5, &[3, 7]), Test { unit: true, passed: false, ..test("c", 0.0, &[]) }] {
        assert_eq!(Test::of_line(written.line().trim_end_matches('\n')), Some(written));
    }
    assert_eq!(Test::of_line("unit\ta::b\tpass"), None);
}

#[test]
fn a_mutant_is_tried_by_those_that_come_to_it_the_quick_and_special_ones_first() {
    let many: Vec<u32> = (1..=100).collect();
    let failing = Test { passed: false, ..test("fails", 0.0, &[7]) };
    let tests = [test("broad", 1.0, &many), test("slow", 9.0, &[7]), test("quick", 1.0, &[7, 8]), failing];
    let order = reach::by_mutant(&tests, |_| "src/store/other.rs");
    assert_eq!(order[&7], [2, 1, 0]);
    assert_eq!(order[&9], [0]);
    assert!(!order.contains_key(&101));
}

#[test]
fn a_mutant_is_tried_first_by_tests_whose_module_has_the_name_of_its_file() {
    let tests = [test("quick::b", 1.0, &[7]), test("secrets_rekeyed::b", 5.0, &[7]), test("store::x::b", 2.0, &[7])];
    let order = |file: &'static str| reach::by_mutant(&tests, |_| file)[&7].clone();
    assert_eq!(order("src/store/secrets.rs"), [1, 0, 2]);
    assert_eq!(order("src/store/mod.rs"), [2, 0, 1]);
    assert_eq!(order("src/dispatcher/other.rs"), [0, 2, 1]);
}

#[test]
fn a_seed_decides_the_order_whatever_else_is_in_the_list() {
    let names: Vec<String> = (0..200).map(|number| format!("src/a.rs:{number}:1: replace a")).collect();
    let shuffled = |seed, step| {
        let mut names: Vec<&String> = names.iter().step_by(step).collect();
        reach::shuffle(seed, &mut names, |name| (*name).clone());
        names
    };
    let (all, half) = (shuffled(1, 1), shuffled(1, 2));
    assert_ne!(all, names.iter().collect::<Vec<_>>());
    assert_ne!(all, shuffled(2, 1));
    let same: Vec<&String> = all.iter().filter(|name| half.contains(name)).copied().collect();
    assert_eq!(same, half);
    // Neighbours in the list are no neighbours in the sample.
    let first_half = all[..100].iter().filter(|name| names[..100].contains(name)).count();
    assert!((35..=65).contains(&first_half), "{first_half}");
}
