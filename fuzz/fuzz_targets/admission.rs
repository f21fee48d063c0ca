#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz_codec_bodies::admission(data));
