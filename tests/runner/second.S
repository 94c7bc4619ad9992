/* second.S: what QEMU emulates when a machine's speed is measured (speed.py). It is all that there is, in place of the firmware:
 * nothing has to be built or booted for it. What it does is what takes the time in a lab: loads and stores by addresses that
 * QEMU cannot know, calls, branches that are guessed wrong, and code that is written anew, and so translated anew. */
	.code16
	.text
	/* Copies itself to RAM, as code in ROM cannot be changed. */
start:
	cli
	cld
	mov	$0x1000, %ax
	mov	%ax, %es
	xor	%si, %si
	xor	%di, %di
	mov	$(end - start), %cx
	rep movsb %cs:(%si), %es:(%di)
	ljmp	$0x1000, $work

work:
	mov	$0x2000, %ax		/* data, and the stack, are not on the code's pages */
	mov	%ax, %ds
	mov	%ax, %ss
	mov	$0xfff0, %sp
	mov	$1, %eax
	mov	$ROUNDS, %edx
round:
	incb	%cs:changed + 3		/* what was translated of this page is void */
	mov	$STEPS, %ecx
step:
	imul	$1664525, %eax
	add	$1013904223, %eax	/* numbers that look like random ones */
	mov	%eax, %ebx
	shr	$16, %ebx
	and	$0xeffc, %bx
	add	%eax, (%bx)
	call	leaf
	dec	%ecx
	jnz	step
	dec	%edx
	jnz	round
	mov	$1, %al			/* isa-debug-exit: QEMU ends, with status 3, which it never has for reasons of its own */
	out	%al, $0xf4
	hlt

leaf:
	test	$0x10000, %eax
	jz	other
changed:
	add	$1, %ebp
	ret
other:
	xor	(%bx), %bp
	ret
end:
	.org	0xfff0			/* where a processor begins: 16 bytes before the firmware's end */
	jmp	start
	.org	0x10000
