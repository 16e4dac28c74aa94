//! Random cases by the million: a small generator, and a runner that names the case that failed.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

/// The one seed. A case depends on it and on its own number only, whatever the number of threads.
const SEED: u64 = 0x5717_1e4f_2026_1201;

/// SplitMix64, which is fast also in a debug build.
pub struct Dice(u64);

impl Dice {
    /// The dice of one case.
    pub fn of_case(number: u64) -> Self {
        let mut dice = Self(SEED ^ number);
        Self(dice.next())
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// True in so many of a hundred throws.
    pub fn percent(&mut self, chance: usize) -> bool {
        self.below(100) < chance
    }

    /// One of these.
    pub fn pick<'a, T: ?Sized>(&mut self, list: &[&'a T]) -> &'a T {
        list[self.below(list.len())]
    }

    /// Between none and `max` of what `draw` gives.
    pub fn up_to<T>(&mut self, max: usize, mut draw: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..self.below(max + 1)).map(|_| draw(self)).collect()
    }
}

/// Runs the law on `cases` cases on all processors. Each case is told its number.
pub fn holds_for(cases: u64, law: impl Fn(u64, &mut Dice) + Sync) {
    println!("seed {SEED:#x}, {cases} cases");
    let next = AtomicU64::new(0);
    let work = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= cases {
                return;
            }
            let _told = Told(number);
            law(number, &mut Dice::of_case(number));
        }
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
}

/// Says which case it was when the law panics.
struct Told(u64);

impl Drop for Told {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("case {} of seed {SEED:#x} failed", self.0);
        }
    }
}
