// `main` of a program that is made of TASKS, included behind them: runs one by its name, or all, each TURNS times on fresh data, and
// prints the checksum. Besides TASKS (name, run) it takes `make_data` and `hash` from its includer.
int main(int argc, char **argv) {
  uint64_t turns = arg_number(argc, argv, 2, 1);
  int found = 0;
  for (size_t k = 0; k < sizeof TASKS / sizeof TASKS[0]; k++) {
    if (argc > 1 && strcmp(argv[1], "all") && strcmp(argv[1], TASKS[k].name)) continue;
    make_data();
    for (uint64_t turn = 0; turn < turns; turn++) TASKS[k].run();
    printf("%s %016llx\n", TASKS[k].name, (unsigned long long)hash);
    found = 1;
  }
  if (!found) fail("no such task");
  return 0;
}
