//! Explores a scenario with stateright, and searches for runs that never end.

use std::collections::HashMap;

use stateright::{Model, Property};

use super::actions::Action;
use super::marks::Marks;
use super::possible::possible;
use super::properties::{REACHED, RULES, is_good_end};
use super::scenario::Scenario;
use super::state::World;
use super::steps::{Taking, beginning, goes_wrong};
use super::story::Story;

/// A scenario as stateright explores it.
pub struct Protocol {
    pub scenario: Scenario,
    pub marks: Marks,
    /// The only rule that is looked at; `None`: all of them.
    pub only: Option<&'static str>,
}

impl Protocol {
    /// The name of the property that every rule holds.
    pub const RULES: &'static str = "every rule holds";

    pub fn of(scenario: Scenario) -> Protocol {
        Protocol { scenario, marks: Marks::default(), only: None }
    }

    /// The state after a step.
    pub fn after(&self, world: &World, action: Action) -> World {
        let mut taking = Taking { world: *world, scenario: &self.scenario, marks: &self.marks };
        taking.step(action);
        taking.world
    }

    /// The steps that are possible.
    pub fn steps(&self, world: &World) -> Vec<Action> {
        let mut steps = Vec::new();
        possible(world, &self.scenario, &mut steps);
        steps
    }

    /// The first rule that does not hold.
    pub fn broken(&self, world: &World) -> Option<&'static str> {
        let mut rules = RULES.iter().filter(|rule| self.only.is_none_or(|only| rule.name == only));
        rules.find(|rule| !(rule.holds)(world, &self.scenario)).map(|rule| rule.name)
    }
}

impl Model for Protocol {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![beginning(&self.scenario)]
    }

    fn actions(&self, world: &World, steps: &mut Vec<Action>) {
        possible(world, &self.scenario, steps);
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        Some(self.after(world, action))
    }

    fn properties(&self) -> Vec<Property<Protocol>> {
        let mut properties =
            vec![Property::always(Protocol::RULES, |protocol: &Protocol, world| protocol.broken(world).is_none())];
        if self.scenario.reaches_all {
            properties.extend(reached());
        }
        properties
    }
}

/// What must be reached, as properties. stateright takes functions without captures, so each has its own.
fn reached() -> Vec<Property<Protocol>> {
    fn at<const AT: usize>(_: &Protocol, world: &World) -> bool {
        (REACHED[AT].test)(world)
    }
    let tests: [fn(&Protocol, &World) -> bool; 11] =
        [at::<0>, at::<1>, at::<2>, at::<3>, at::<4>, at::<5>, at::<6>, at::<7>, at::<8>, at::<9>, at::<10>];
    REACHED.iter().zip(tests).map(|(reached, test)| Property::sometimes(reached.name, test)).collect()
}

/// A run of the world that behaves: it never ends well.
#[derive(Debug)]
pub struct Endless {
    /// The steps from the beginning of the scenario to the state from which the world behaves, and on to the end.
    pub steps: Vec<Action>,
    /// Whether the run goes in a circle; otherwise it stops, with something left to do.
    pub circle: bool,
}

/// What does not hold then.
pub const ENDLESS: &str = "every delivery ends if the world behaves";

impl Endless {
    pub fn story(self, title: &str) -> Story<'_> {
        Story { title, steps: self.steps, circle: self.circle, end: ENDLESS }
    }
}

/// How the search has gone through a state.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Colour {
    Open,
    Closed,
}

/// Explores a scenario from its beginning. From every state, every run of the world that behaves must end well: it comes to
/// a state with no further step, and there everything has ended. Returns the number of states, and a run that does not. After
/// so many states it looks no farther.
///
/// stateright's own `eventually` does not see runs that go in a circle; this search does: the steps of the world that
/// behaves must form no circle.
pub fn runs_that_never_end(protocol: &Protocol, most: usize) -> (usize, Option<Endless>) {
    let first = beginning(&protocol.scenario);
    let mut parents: HashMap<u64, Option<(u64, Action)>> = HashMap::from([(first.common_number(), None)]);
    let mut due = vec![first];
    let mut colours: HashMap<u64, Colour> = HashMap::new();
    while let Some(world) = due.pop() {
        let from = world.common_number();
        if let Some((after, circle)) = ends_well(protocol, world, &mut colours) {
            let mut steps = path(&parents, from);
            steps.extend(after);
            return (parents.len(), Some(Endless { steps, circle }));
        }
        if parents.len() >= most {
            break;
        }
        for action in protocol.steps(&world) {
            let next = protocol.after(&world, action);
            parents.entry(next.common_number()).or_insert_with(|| {
                due.push(next);
                Some((from, action))
            });
        }
    }
    (parents.len(), None)
}

fn path(parents: &HashMap<u64, Option<(u64, Action)>>, mut at: u64) -> Vec<Action> {
    let mut steps = Vec::new();
    while let Some(Some((before, action))) = parents.get(&at) {
        steps.push(*action);
        at = *before;
    }
    steps.reverse();
    steps
}

/// The steps of the world that behaves. A dispatcher is started if none is there.
fn good_steps(protocol: &Protocol, world: &World) -> Vec<Action> {
    let mut steps = protocol.steps(world);
    let none = !world.processes.iter().any(|process| process.life.acts());
    steps.retain(|action| {
        action.behaves() && !goes_wrong(world, *action) && (none || !matches!(action, Action::Start(_)))
    });
    steps
}

/// A state on the way of the search below.
struct Visit {
    number: u64,
    world: World,
    /// The steps from here that are still to be taken.
    left: Vec<Action>,
    /// The step that led here.
    by: Option<Action>,
}

/// Goes through all runs of the world that behaves from here, depth first.
fn ends_well(protocol: &Protocol, from: World, colours: &mut HashMap<u64, Colour>) -> Option<(Vec<Action>, bool)> {
    let (mut stack, mut due) = (Vec::<Visit>::new(), Some((from, None)));
    loop {
        if let Some((world, by)) = due.take() {
            let number = world.common_number();
            let so_far = || stack.iter().map(|visit| visit.by).chain([by]).flatten().collect();
            match colours.get(&number) {
                Some(Colour::Open) => return Some((so_far(), true)),
                Some(Colour::Closed) => {}
                None => {
                    let left = good_steps(protocol, &world);
                    if left.is_empty() && !is_good_end(&world) {
                        return Some((so_far(), false));
                    }
                    colours.insert(number, Colour::Open);
                    stack.push(Visit { number, world, left, by });
                }
            }
        }
        let visit = stack.last_mut()?;
        match visit.left.pop() {
            Some(action) => due = Some((protocol.after(&visit.world, action), Some(action))),
            None => {
                colours.insert(visit.number, Colour::Closed);
                stack.pop();
            }
        }
    }
}
