;; Adds two runs of numbers, 16 bytes at a time: Node's engine adds one number at a time in JavaScript. All offsets and `$bytes` are
;; multiples of 16. `npm run build:wasm` makes sums_wasm.ts of this.
(module
  ;; Regions of 16 KiB, see reduction.ts.
  (memory (export "memory") 1 64)

  (func (export "addFp32") (param $left i32) (param $right i32) (param $into i32) (param $bytes i32)
    (local $at i32)
    (loop $next
      (v128.store
        (i32.add (local.get $into) (local.get $at))
        (f32x4.add
          (v128.load (i32.add (local.get $left) (local.get $at)))
          (v128.load (i32.add (local.get $right) (local.get $at)))))
      (br_if $next
        (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 16))) (local.get $bytes)))))

  ;; A bfloat16 is the upper half of an fp32 number. The fp32 sum is rounded to the nearest one, to the even one if two are as near; a NaN
  ;; becomes 0x7fc0. (Node 20 inlines no functions here, so the rounding is there twice.)
  (func (export "addBf16") (param $left i32) (param $right i32) (param $into i32) (param $bytes i32)
    (local $at i32)
    (local $a v128)
    (local $b v128)
    (local $low v128)
    (local $high v128)
    (loop $next
      (local.set $a (v128.load (i32.add (local.get $left) (local.get $at))))
      (local.set $b (v128.load (i32.add (local.get $right) (local.get $at))))
      (local.set $low
        (f32x4.add
          (i32x4.shl (i32x4.extend_low_i16x8_u (local.get $a)) (i32.const 16))
          (i32x4.shl (i32x4.extend_low_i16x8_u (local.get $b)) (i32.const 16))))
      (local.set $high
        (f32x4.add
          (i32x4.shl (i32x4.extend_high_i16x8_u (local.get $a)) (i32.const 16))
          (i32x4.shl (i32x4.extend_high_i16x8_u (local.get $b)) (i32.const 16))))
      (v128.store
        (i32.add (local.get $into) (local.get $at))
        (i16x8.narrow_i32x4_u
          (v128.bitselect
            (v128.const i32x4 0x7fc0 0x7fc0 0x7fc0 0x7fc0)
            (i32x4.shr_u
              (i32x4.add
                (i32x4.add (local.get $low) (v128.const i32x4 0x7fff 0x7fff 0x7fff 0x7fff))
                (v128.and (i32x4.shr_u (local.get $low) (i32.const 16)) (v128.const i32x4 1 1 1 1)))
              (i32.const 16))
            (f32x4.ne (local.get $low) (local.get $low)))
          (v128.bitselect
            (v128.const i32x4 0x7fc0 0x7fc0 0x7fc0 0x7fc0)
            (i32x4.shr_u
              (i32x4.add
                (i32x4.add (local.get $high) (v128.const i32x4 0x7fff 0x7fff 0x7fff 0x7fff))
                (v128.and (i32x4.shr_u (local.get $high) (i32.const 16)) (v128.const i32x4 1 1 1 1)))
              (i32.const 16))
            (f32x4.ne (local.get $high) (local.get $high)))))
      (br_if $next
        (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 16))) (local.get $bytes))))))
