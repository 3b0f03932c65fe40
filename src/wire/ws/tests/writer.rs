//! Frames as bytes.

use crate::wire::ws::{
    Opcode, write_close, write_frame_header, write_ping, write_pong, write_text,
};

#[test]
fn lengths_take_as_few_bytes_as_they_can() {
    let check = |len: usize, expected: &[u8]| {
        let mut out = Vec::new();
        write_frame_header(&mut out, Opcode::Text, len);
        assert_eq!(out, expected, "{len}");
    };
    check(0, &[0x81, 0]);
    check(125, &[0x81, 125]);
    check(126, &[0x81, 126, 0, 126]);
    check(255, &[0x81, 126, 0, 255]);
    check(65_535, &[0x81, 126, 0xff, 0xff]);
    check(65_536, &[0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
}

#[test]
fn each_kind_of_frame_has_its_opcode() {
    let written = |write: &dyn Fn(&mut Vec<u8>)| {
        let mut out = b"x".to_vec();
        write(&mut out);
        out
    };
    assert_eq!(written(&|out| write_text(out, b"ab")), b"x\x81\x02ab");
    assert_eq!(written(&|out| write_ping(out, b"ab")), b"x\x89\x02ab");
    assert_eq!(written(&|out| write_pong(out, b"")), b"x\x8a\x00");
    assert_eq!(
        written(&|out| write_close(out, 1000, "")),
        b"x\x88\x02\x03\xe8"
    );
    assert_eq!(
        written(&|out| write_frame_header(out, Opcode::Binary, 1)),
        b"x\x82\x01"
    );
    assert_eq!(
        written(&|out| write_frame_header(out, Opcode::Continuation, 1)),
        b"x\x80\x01"
    );
}

#[test]
fn control_payloads_are_cut_to_fit() {
    let mut out = Vec::new();
    write_ping(&mut out, &[b'a'; 126]);
    assert_eq!((out[1], out.len()), (125, 127));
}

#[test]
fn close_reasons_are_cut_between_characters() {
    let check = |reason: &str, kept: usize| {
        let mut out = Vec::new();
        write_close(&mut out, 1011, reason);
        assert_eq!(usize::from(out[1]), kept + 2);
        assert_eq!(str::from_utf8(&out[4..]), Ok(&reason[..kept]));
    };
    check(&"a".repeat(123), 123);
    check(&"a".repeat(124), 123);
    check(&"\u{e4}".repeat(62), 122);
    check(&format!("a{}", "\u{e4}".repeat(62)), 123);
    check(&"\u{1f600}".repeat(31), 120);
    check(&format!("{}\u{1f600}", "a".repeat(120)), 120);
}
