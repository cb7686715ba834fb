# A guest that enters long mode, takes an exception there, and ends QEMU by its debug-exit device with code 33.
# as --32 trial.S -o trial.o && ld -m elf_i386 -Ttext 0x100000 --oformat binary trial.o -o trial.bin
.set MAGIC, 0x1BADB002
.set FLAGS, 0x00010000
.code32
.text
.globl _start
_start:
header:
  .long MAGIC, FLAGS, -(MAGIC+FLAGS)
  .long header, _start, end, end, entry
entry:
  cli
  mov $0x180000, %esp
  # page tables at 0x200000: one 1 GiB identity mapping by 2 MiB pages
  mov $0x200000, %edi
  xor %eax, %eax
  mov $0x1000, %ecx
  rep stosl
  movl $0x201003, 0x200000
  movl $0x202003, 0x201000
  mov $0x202000, %edi
  mov $0x83, %eax
  mov $512, %ecx
1: mov %eax, (%edi)
  add $0x200000, %eax
  add $8, %edi
  loop 1b
  mov %cr4, %eax
  or $0x20, %eax
  mov %eax, %cr4
  mov $0x200000, %eax
  mov %eax, %cr3
  mov $0xC0000080, %ecx
  rdmsr
  or $0x100, %eax
  wrmsr
  mov %cr0, %eax
  or $0x80000001, %eax
  mov %eax, %cr0
  lgdt gdtr
  ljmp $8, $long
.code64
long:
  mov $16, %eax
  mov %eax, %ds
  mov %eax, %es
  mov %eax, %ss
  # an interrupt gate for #UD at 0x204000
  mov $0x204000, %edi
  lea handler(%rip), %rax
  mov %ax, 0x60(%rdi)
  movw $8, 0x62(%rdi)
  movw $0x8E00, 0x64(%rdi)
  shr $16, %rax
  mov %ax, 0x66(%rdi)
  movl $0, 0x68(%rdi)
  movl $0, 0x6c(%rdi)
  lidt idtr(%rip)
  mov $0, %eax
  cpuid
  ud2
  hlt
handler:
  mov $0x10, %eax
  mov $0x501, %dx
  out %eax, %dx
2: hlt
  jmp 2b
.balign 8
gdt: .quad 0, 0x00AF9A000000FFFF, 0x00CF92000000FFFF
gdtr: .word 23
  .long gdt
.balign 8
idtr: .word 0xFFF
  .quad 0x204000
end:
