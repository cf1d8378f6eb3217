//! Which faults a drill runs, where and in which order, drawn from its seed.

use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

use crate::supervisor::{BLOCKABLE, DEPLOYABLE, Fault, WITH_INDEX};
use crate::topology::N_PARTITIONS;

/// One thing done to the pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    pub fault: Fault,
    /// For a blocked partition.
    pub partition: Option<i32>,
}

/// 12 faults with 4 decoys between them, or 4 with 2.
pub fn draw(seed: u64, short: bool) -> Vec<Step> {
    let mut rng = SmallRng::seed_from_u64(seed ^ 0x7363_6865_6475_6c65);
    let mut faults = if short { short_faults(&mut rng) } else { long_faults(&mut rng) };
    faults.shuffle(&mut rng);
    let mut decoys = vec![Fault::Burst, sound_deployment(&mut rng)];
    if !short {
        decoys.extend([Fault::Burst, sound_deployment(&mut rng)]);
    }
    decoys.shuffle(&mut rng);
    // At distinct places between two faults, never first and never last.
    let mut places: Vec<usize> = (1..faults.len()).collect();
    places.shuffle(&mut rng);
    places.truncate(decoys.len());
    places.sort_unstable();
    for (i, (place, decoy)) in places.into_iter().zip(decoys).enumerate() {
        faults.insert(place + i, decoy);
    }
    let partition = |fault, rng: &mut SmallRng| {
        matches!(fault, Fault::BlockPartition(_)).then(|| rng.random_range(0..N_PARTITIONS))
    };
    faults.into_iter().map(|fault| Step { fault, partition: partition(fault, &mut rng) }).collect()
}

/// Each kind four times, each place of a kind that has two places twice, four distinct deployments.
fn long_faults(rng: &mut SmallRng) -> Vec<Fault> {
    let mut deployed = DEPLOYABLE;
    deployed.shuffle(rng);
    let twice = |places: [Fault; 2]| [places[0], places[1], places[0], places[1]];
    let mut faults = twice(WITH_INDEX.map(Fault::DropIndex)).to_vec();
    faults.extend(twice(BLOCKABLE.map(Fault::BlockPartition)));
    faults.extend(deployed.into_iter().take(4).map(Fault::DeployFaulty));
    faults
}

/// One of each kind, and one more of any.
fn short_faults(rng: &mut SmallRng) -> Vec<Fault> {
    let mut all = long_faults(rng);
    all.shuffle(rng);
    let kind = |fault: &Fault| match fault {
        Fault::DropIndex(_) => 0,
        Fault::BlockPartition(_) => 1,
        Fault::DeployFaulty(_) | Fault::DeploySound(_) | Fault::Burst => 2,
    };
    let mut chosen: Vec<Fault> =
        (0..3).filter_map(|k| all.iter().position(|f| kind(f) == k).map(|i| all.remove(i))).collect();
    chosen.extend(all.into_iter().find(|f| !chosen.contains(f)));
    chosen
}

fn sound_deployment(rng: &mut SmallRng) -> Fault {
    Fault::DeploySound(DEPLOYABLE[rng.random_range(0..DEPLOYABLE.len())])
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn kinds(steps: &[Step]) -> (usize, usize, usize, usize) {
        let count = |f: fn(&Fault) -> bool| steps.iter().filter(|s| f(&s.fault)).count();
        (
            count(|f| matches!(f, Fault::DropIndex(_))),
            count(|f| matches!(f, Fault::BlockPartition(_))),
            count(|f| matches!(f, Fault::DeployFaulty(_))),
            count(|f| f.is_decoy()),
        )
    }

    proptest! {
        #[test]
        fn a_drill_strikes_every_kind_at_several_places(seed in any::<u64>()) {
            let steps = draw(seed, false);
            prop_assert_eq!(&steps, &draw(seed, false));
            prop_assert_eq!(kinds(&steps), (4, 4, 4, 4));
            let places: HashSet<String> =
                steps.iter().filter(|s| !s.fault.is_decoy()).map(|s| s.fault.id()).collect();
            prop_assert_eq!(places.len(), 8);
            for step in &steps {
                prop_assert_eq!(step.partition.is_some(), matches!(step.fault, Fault::BlockPartition(_)));
            }
        }

        #[test]
        fn a_short_drill_has_every_kind(seed in any::<u64>()) {
            let steps = draw(seed, true);
            let (index, block, deploy, decoys) = kinds(&steps);
            prop_assert_eq!((index + block + deploy, decoys), (4, 2));
            prop_assert!(index > 0 && block > 0 && deploy > 0);
            let distinct: HashSet<Fault> = steps.iter().map(|s| s.fault).collect();
            prop_assert_eq!(distinct.len(), steps.len());
        }

        #[test]
        fn decoys_stand_between_faults(seed in any::<u64>(), short: bool) {
            let steps = draw(seed, short);
            prop_assert!(!steps[0].fault.is_decoy() && !steps[steps.len() - 1].fault.is_decoy());
            prop_assert!(steps.windows(2).all(|w| !(w[0].fault.is_decoy() && w[1].fault.is_decoy())));
        }
    }
}
