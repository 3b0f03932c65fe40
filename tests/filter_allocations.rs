//! Asking a filter about an entity allocates nothing, whatever it compares: a list asks it about
//! every entity there is.

use flux::filter::{Facts, Filter};
use flux::model::Timestamp;

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

const PROPERTIES: &[(&str, &str)] = &[
    ("at", r#"{"x":1.0,"y\/z":{"deep":[1,{"a":1,"b":2.0}]}}"#),
    ("count", "12345678901234567890123"),
    ("name", r#""p\u0075mp-\ud83d\ude00-22""#),
    ("tags", r#"[{"b":"\u0041","a":null},true]"#),
];

#[test]
fn asking_a_filter_allocates_nothing() {
    let facts = Facts {
        version: 7,
        updated: Timestamp::from_micros(1_795_841_400_000_001),
        expires: None,
    };
    let filters = [
        "eq(at/x,1)",
        r#"eq(at/y~1z/deep,[1.00,{"b":2,"a":1e0}])"#,
        "gt(count,12345678901234567890122.5)",
        r#"and(like(name,"pump-*-2*"),eq(name,"pump-😀-22"))"#,
        r#"in(tags,1,[{"a":null,"b":"A"},true])"#,
        r#"and(ge($version,7),gt($updated,1e12),like($updated,"2026-*"))"#,
        "and(exists(at),exists(count),exists(name),exists(tags),not(exists(x)),lt($version,8))",
    ]
    .map(|text| Filter::parse(text).expect(text));
    let blocks = || {
        let profiler = dhat::Profiler::builder().testing().build();
        let mut matching = 0;
        for _ in 0..100 {
            for filter in &filters {
                let properties = PROPERTIES.iter().copied();
                matching += usize::from(filter.matches(&facts, properties));
            }
        }
        let stats = dhat::HeapStats::get();
        drop(profiler);
        assert_eq!(matching, 100 * filters.len());
        stats.total_blocks
    };
    // The thread that waits for the test may allocate beside it; what a filter allocates it
    // allocates each time.
    let fewest = (0..10).map(|_| blocks()).min();
    assert_eq!(fewest, Some(0));
}
