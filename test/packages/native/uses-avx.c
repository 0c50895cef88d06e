/* Has no way around AVX: what must not run where there is none. */
int main(void) {
  __asm__ volatile("vzeroupper");
  return 0;
}
