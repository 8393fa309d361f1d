// The tag of C++ exceptions in Wasm: clang refers to it, zig's libraries do not define it.
__asm__(".globl __cpp_exception\n.tagtype __cpp_exception i32\n__cpp_exception:\n");
