// The exception tag by which setjmp and longjmp work in Wasm: clang refers to it, zig's wasi-libc does not define it.
__asm__(".globl __c_longjmp\n.tagtype __c_longjmp i32\n__c_longjmp:\n");
