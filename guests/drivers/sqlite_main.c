// Runs SQL from a file (or stdin for "-") on a database, prints the rows as the sqlite3 shell's list mode does: columns joined
// by "|", NULL as nothing. (SQLite's own shell.c is not in the package.) Parameters :1 to :9 are bound to the further arguments.
// An error goes to stderr and gives exit code 1. usage: sqlite DATABASE SQL_FILE [VALUES]
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sqlite3.h"

static char *read_all(const char *name) {
  FILE *file = strcmp(name, "-") ? fopen(name, "rb") : stdin;
  if (!file) return 0;
  size_t length = 0, room = 4096;
  char *text = malloc(room);
  for (size_t got; text && (got = fread(text + length, 1, room - length - 1, file)) > 0;) {
    length += got;
    if (room - length < 1024) text = realloc(text, room *= 2);
  }
  if (text) text[length] = 0;
  if (file != stdin) fclose(file);
  return text;
}

static int complain(sqlite3 *db, const char *what) {
  fflush(stdout);
  fprintf(stderr, "sqlite: %s: %s\n", what, sqlite3_errmsg(db));
  return 1;
}

static void bind_arguments(sqlite3_stmt *statement, int count, char **values) {
  for (int i = 0; i < count && i < 9; i++) {
    char name[3] = {':', (char)('1' + i), 0};
    int index = sqlite3_bind_parameter_index(statement, name);
    if (index) sqlite3_bind_int64(statement, index, atoll(values[i]));
  }
}

static void print_row(sqlite3_stmt *statement) {
  for (int i = 0; i < sqlite3_column_count(statement); i++) {
    const unsigned char *text = sqlite3_column_text(statement, i);
    printf("%s%s", i ? "|" : "", text ? (const char *)text : "");
  }
  printf("\n");
}

static int run(sqlite3 *db, const char *sql, int count, char **values) {
  while (*sql) {
    sqlite3_stmt *statement;
    if (sqlite3_prepare_v2(db, sql, -1, &statement, &sql) != SQLITE_OK) return complain(db, "prepare");
    if (!statement) continue;
    bind_arguments(statement, count, values);
    int step;
    while ((step = sqlite3_step(statement)) == SQLITE_ROW) print_row(statement);
    fflush(stdout);
    if (step != SQLITE_DONE) return complain(db, sqlite3_sql(statement));
    sqlite3_finalize(statement);
  }
  return 0;
}

int main(int argc, char **argv) {
  if (argc < 3) {
    fprintf(stderr, "usage: sqlite DATABASE SQL_FILE [VALUES]\n");
    return 2;
  }
  sqlite3 *db;
  if (sqlite3_open(argv[1], &db) != SQLITE_OK) return complain(db, argv[1]);
  char *sql = read_all(argv[2]);
  if (!sql) {
    fprintf(stderr, "sqlite: cannot read %s\n", argv[2]);
    return 1;
  }
  int code = run(db, sql, argc - 3, argv + 3);
  sqlite3_close_v2(db);
  return code;
}
