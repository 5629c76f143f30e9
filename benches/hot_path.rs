//! Times of what an exchange pays; `instructions` counts the same without the machine's noise.

mod cases;

use criterion::{Criterion, criterion_group, criterion_main};

fn all(c: &mut Criterion) {
    for (name, mut act) in cases::all() {
        c.bench_function(&name, |b| b.iter(&mut act));
    }
}

criterion_group!(benches, all);
criterion_main!(benches);
