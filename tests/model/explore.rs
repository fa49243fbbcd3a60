//! Explores a scenario with stateright, and searches for runs that never end.

use std::collections::HashMap;

use stateright::{Model, Property};

use crate::actions::Action;
use crate::marks::Marks;
use crate::possible::possible;
use crate::properties::{REACHED, RULES, is_good_end};
use crate::scenario::Scenario;
use crate::state::World;
use crate::steps::{Taking, beginning, goes_wrong};

/// A scenario as stateright explores it.
pub struct Protocol {
    pub scenario: Scenario,
    pub marks: Marks,
}

impl Protocol {
    pub fn of(scenario: Scenario) -> Protocol {
        Protocol { scenario, marks: Marks::default() }
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
        RULES.iter().find(|rule| !(rule.holds)(world, &self.scenario)).map(|rule| rule.name)
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
            vec![Property::always("every rule holds", |protocol: &Protocol, world| protocol.broken(world).is_none())];
        properties.extend(reached());
        properties
    }
}

/// What must be reached, as properties. stateright takes functions without captures, so each has its own.
fn reached() -> Vec<Property<Protocol>> {
    fn at<const AT: usize>(_: &Protocol, world: &World) -> bool {
        REACHED[AT].1(world)
    }
    let tests: [fn(&Protocol, &World) -> bool; 11] =
        [at::<0>, at::<1>, at::<2>, at::<3>, at::<4>, at::<5>, at::<6>, at::<7>, at::<8>, at::<9>, at::<10>];
    REACHED.iter().zip(tests).map(|((name, _), test)| Property::sometimes(name, test)).collect()
}

/// A run of the world that behaves: it never ends well.
#[derive(Debug)]
pub struct Endless {
    /// The steps from the beginning of the scenario to the state from which the world behaves, and on to the end.
    pub steps: Vec<Action>,
    /// Whether the run goes in a circle; otherwise it stops, with something left to do.
    pub circle: bool,
}

/// How the search has gone through a state.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Colour {
    Open,
    Closed,
}

/// Explores a scenario from its beginning. From every state, every run of the world that behaves must end well: it comes to
/// a state with no further step, and there everything has ended. Returns the number of states, and a run that does not.
///
/// stateright's own `eventually` does not see runs that go in a circle; this search does: the steps of the world that
/// behaves must form no circle.
pub fn runs_that_never_end(protocol: &Protocol) -> (usize, Option<Endless>) {
    let first = beginning(&protocol.scenario);
    let mut parents: HashMap<World, Option<(World, Action)>> = HashMap::from([(first, None)]);
    let mut due = vec![first];
    let mut colours: HashMap<World, Colour> = HashMap::new();
    while let Some(world) = due.pop() {
        if let Some((after, circle)) = ends_well(protocol, world, &mut colours) {
            let mut steps = path(&parents, world);
            steps.extend(after);
            return (parents.len(), Some(Endless { steps, circle }));
        }
        for action in protocol.steps(&world) {
            let next = protocol.after(&world, action);
            parents.entry(next).or_insert_with(|| {
                due.push(next);
                Some((world, action))
            });
        }
    }
    (parents.len(), None)
}

fn path(parents: &HashMap<World, Option<(World, Action)>>, world: World) -> Vec<Action> {
    let mut steps = Vec::new();
    let mut at = world;
    while let Some(Some((before, action))) = parents.get(&at) {
        steps.push(*action);
        at = *before;
    }
    steps.reverse();
    steps
}

/// Goes through all runs of the world that behaves from here, depth first.
fn ends_well(protocol: &Protocol, from: World, colours: &mut HashMap<World, Colour>) -> Option<(Vec<Action>, bool)> {
    if colours.contains_key(&from) {
        return None;
    }
    let good = |world: &World| -> Vec<Action> {
        let mut steps = protocol.steps(world);
        steps.retain(|action| action.behaves() && !goes_wrong(world, *action));
        // A dispatcher is started if none is there.
        let none = !world.processes.iter().any(|process| process.life.acts());
        steps.retain(|action| none || !matches!(action, Action::Start(_)));
        steps
    };
    let mut stack = vec![(from, good(&from), None)];
    colours.insert(from, Colour::Open);
    loop {
        let (world, steps, _) = stack.last_mut()?;
        let (world, Some(action)) = (*world, steps.pop()) else {
            let done = stack.pop()?;
            colours.insert(done.0, Colour::Closed);
            continue;
        };
        let next = protocol.after(&world, action);
        let so_far = |stack: &[(World, Vec<Action>, Option<Action>)]| {
            stack.iter().filter_map(|(_, _, by)| *by).chain([action]).collect()
        };
        match colours.get(&next) {
            Some(Colour::Open) => return Some((so_far(&stack), true)),
            Some(Colour::Closed) => continue,
            None => {}
        }
        let steps = good(&next);
        if steps.is_empty() && !is_good_end(&next) {
            return Some((so_far(&stack), false));
        }
        colours.insert(next, Colour::Open);
        stack.push((next, steps, Some(action)));
    }
}
