//! scratch
use latefork_cpu::testing::{Machine, flat_state, CODE};
use latefork_cpu::CpuModel;
fn main() {
    let kinds: &[&[u8]] = &[&[0x01,0xd8],&[0x31,0xc1],&[0x83,0xc3,7],&[0xc1,0xe2,3],&[0x29,0xca],&[0x21,0xd6],&[0x46],&[0x89,0xd0],
        &[0x8b,0x05,0,0,8,0],&[0x89,0x15,4,0,8,0],&[0x50],&[0x58],&[0x8d,0x43,8],&[0x0f,0xb6,0xc1],&[0x09,0xd8],&[0xf7,0xd0],
        &[0x39,0xd8],&[0x85,0xc0],&[0x43],&[0x4b],&[0xb8,1,0,0,0],&[0x87,0xd3],&[0x0f,0xaf,0xc3],&[0xd1,0xe8]];
    for mixed in [0usize, 1, 2] { for n in [200usize, 1000, 4000, 8000, 16000, 32000, 64000, 128000] {
        let mut code = vec![];
        let mut x = 12345u32;
        let mut left = 0; let mut cur = 0;
        for i in 0..n {
            x = x.wrapping_mul(1664525).wrapping_add(1013904223);
            let k = match mixed { 0 => 0, 1 => (x >> 16) as usize % kinds.len(), _ => { if left == 0 { cur = (x>>16) as usize % kinds.len(); left = 8 } left -= 1; cur } };
            // balance stack
            code.extend(kinds[k]);
            if i % 8 == 7 { code.extend([0xeb, 0]); }
        }
        // mov esp,imm ; jmp back
        code.extend([0xbc, 0,0,9,0]);
        let back = -(code.len() as i32 + 5);
        code.push(0xe9); code.extend(back.to_le_bytes());
        let mut st = flat_state(CpuModel::Fuzz); st.gpr[4] = 0x90000; st.eip = 0x10_0000; let _ = CODE;
        let mut m = Machine::with_state(vec![0; 4 << 20], &st);
        m.write(0x10_0000, &code);
        m.run(2_000_000);
        let mut best = f64::MAX;
        for _ in 0..5 { let t = std::time::Instant::now(); m.run(4_000_000); best = best.min(t.elapsed().as_secs_f64()); }
        println!("mixed {mixed} n {n}: {:.0} Mips", 4.0 / best);
    } }
}
