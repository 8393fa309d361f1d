// Data structures and what walks them: trees, lists, maps, an arena, graphs, links that dance.
// Each runs TURNS times on data made once from a seed, and prints a checksum. usage: structures NAME|all [TURNS]
#include "prose.h"

// AVL trees: insertions and deletions by recursion.
struct avl { int key, height; struct avl *child[2]; };
static struct avl avl_pool[1200], *avl_free;
static int avl_height(const struct avl *t) { return t ? t->height : 0; }
static void avl_update(struct avl *t) {
  int l = avl_height(t->child[0]), r = avl_height(t->child[1]);
  t->height = (l > r ? l : r) + 1;
}
static struct avl *avl_rotate(struct avl *t, int side) {
  struct avl *up = t->child[side];
  t->child[side] = up->child[!side], up->child[!side] = t;
  avl_update(t), avl_update(up);
  return up;
}
static struct avl *avl_balance(struct avl *t) {
  avl_update(t);
  int lean = avl_height(t->child[1]) - avl_height(t->child[0]);
  if (lean > -2 && lean < 2) return t;
  int side = lean > 0;
  struct avl *c = t->child[side];
  if (avl_height(c->child[!side]) > avl_height(c->child[side])) t->child[side] = avl_rotate(c, !side);
  return avl_rotate(t, side);
}
static struct avl *avl_insert(struct avl *t, int key) {
  if (!t) {
    t = avl_free, avl_free = t->child[0];
    t->key = key, t->height = 1, t->child[0] = t->child[1] = NULL;
    return t;
  }
  if (key == t->key) return t;
  int side = key > t->key;
  t->child[side] = avl_insert(t->child[side], key);
  return avl_balance(t);
}
static struct avl *avl_delete(struct avl *t, int key) {
  if (!t) return NULL;
  if (key == t->key) {
    if (t->child[0] && t->child[1]) {
      struct avl *least = t->child[1];
      while (least->child[0]) least = least->child[0];
      t->key = least->key;
      t->child[1] = avl_delete(t->child[1], least->key);
    } else {
      struct avl *rest = t->child[0] ? t->child[0] : t->child[1];
      t->child[0] = avl_free, avl_free = t;
      return rest;
    }
  } else {
    int side = key > t->key;
    t->child[side] = avl_delete(t->child[side], key);
  }
  return avl_balance(t);
}
static uint32_t avl_walk(const struct avl *t) {
  return t ? avl_walk(t->child[0]) * 31 + (uint32_t)(t->key + t->height) + avl_walk(t->child[1]) * 17 : 0;
}
static void avl(void) {
  struct avl *root = NULL;
  avl_free = NULL;
  for (int i = 0; i < 1200; i++) avl_pool[i].child[0] = avl_free, avl_free = &avl_pool[i];
  for (int i = 0; i < 1000; i++) root = avl_insert(root, random_below(1000));
  for (int i = 0; i < 1000; i++) root = i & 1 ? avl_insert(root, random_below(1000)) : avl_delete(root, random_below(1000));
  mix(avl_walk(root));
}

// A skip list, from which a key is taken out when it comes for the third time.
#define LEVELS 12
struct skip { int key, value; struct skip *next[LEVELS]; };
static struct skip skip_pool[1001];
static void skiplist(void) {
  struct skip *head = &skip_pool[0], *before[LEVELS];
  int used = 1, hits = 0;
  memset(head, 0, sizeof *head);
  for (int i = 0; i < 2500; i++) {
    uint64_t dice = next_random(&seed);
    int key = (int)(dice >> 40) % 1500;
    struct skip *at = head;
    for (int l = LEVELS - 1; l >= 0; l--) {
      while (at->next[l] && at->next[l]->key < key) at = at->next[l];
      before[l] = at;
    }
    at = at->next[0];
    if (at && at->key == key) {
      hits += ++at->value;
      if (at->value > 1) for (int l = 0; l < LEVELS && before[l]->next[l] == at; l++) before[l]->next[l] = at->next[l];
    } else if (used <= 1000) {
      at = &skip_pool[used++];
      at->key = key, at->value = 0;
      for (int l = 0; l < LEVELS; l++) {
        at->next[l] = before[l]->next[l], before[l]->next[l] = at;
        if (dice >> l & 1) break;
      }
    }
  }
  mix((uint64_t)hits), mix((uint64_t)used);
}

// Merge sort of a linked list, by recursion.
struct link { uint32_t key; struct link *next; };
static struct link *list_merge(struct link *a, struct link *b) {
  struct link *head = NULL, **tail = &head;
  while (a && b) {
    struct link **least = a->key <= b->key ? &a : &b;
    *tail = *least, tail = &(*least)->next, *least = *tail;
  }
  *tail = a ? a : b;
  return head;
}
NOINLINE static struct link *list_sort(struct link *list) {
  if (!list || !list->next) return list;
  struct link *slow = list, *fast = list->next;
  while (fast && fast->next) slow = slow->next, fast = fast->next->next;
  struct link *half = slow->next;
  slow->next = NULL;
  return list_merge(list_sort(list), list_sort(half));
}
static void listsort(void) {
  static struct link links[2000];
  for (int i = 0; i < 2000; i++) links[i].key = (uint32_t)next_random(&seed), links[i].next = i ? &links[i - 1] : NULL;
  uint32_t sum = 0;
  for (struct link *at = list_sort(&links[1999]); at; at = at->next) sum = sum * 5 + at->key;
  mix(sum);
}

// The k-th of many numbers, by partitions.
static int quickselect_of(int *a, int low, int high, int k) {
  while (low < high) {
    int pivot = a[(low + high) >> 1], i = low, j = high;
    while (i <= j) {
      while (a[i] < pivot) i++;
      while (a[j] > pivot) j--;
      if (i > j) break;
      int kept = a[i];
      a[i++] = a[j], a[j--] = kept;
    }
    if (k <= j) high = j;
    else if (k >= i) low = i;
    else break;
  }
  return a[k];
}
static void quickselect(void) {
  static int a[8000];
  for (int i = 0; i < 8000; i++) a[i] = random_below(1 << 24);
  for (int k = 1; k < 8; k++) mix((uint64_t)quickselect_of(a, 0, 7999, k * 1000));
}

// Words counted in a map with open addressing, which grows.
struct entry { const char *key; uint32_t length, hash; int count; };
static void wordmap_once(void) {
  uint32_t room = 16, used = 0;
  struct entry *map = calloc(room, sizeof *map);
  if (!map) fail("out of memory");
  int begin = random_below(1000);
  const char *end = text + begin + 15000;
  for (const char *at = text + begin; at < end;) {
    const char *word = at;
    uint32_t h = 2166136261u;
    int spaces = 0, most = 1 + (int)((at - text) & 3);
    for (; at < end && (*at != ' ' || ++spaces < most); at++) h = (h ^ (uint8_t)*at) * 16777619u;
    uint32_t length = (uint32_t)(at++ - word);
    uint32_t i = h & (room - 1);
    while (map[i].key && (map[i].hash != h || map[i].length != length || memcmp(map[i].key, word, length))) i = (i + 1) & (room - 1);
    if (map[i].key) {
      map[i].count++;
      continue;
    }
    map[i] = (struct entry){word, length, h, 1};
    if (++used * 4 < room * 3) continue;
    struct entry *more = calloc(2 * room, sizeof *more);
    if (!more) fail("out of memory");
    for (uint32_t k = 0; k < room; k++) {
      if (!map[k].key) continue;
      uint32_t j = map[k].hash & (2 * room - 1);
      while (more[j].key) j = (j + 1) & (2 * room - 1);
      more[j] = map[k];
    }
    free(map);
    map = more, room *= 2;
  }
  uint32_t sum = used;
  for (uint32_t k = 0; k < room; k++) if (map[k].key) sum = sum * 7 + (uint32_t)map[k].count * map[k].length;
  free(map);
  mix(sum);
}
static void wordmap(void) {
  for (int i = 0; i < 3; i++) wordmap_once();
}

// An arena for lists that live a while, beside strings that grow by realloc.
struct chunk { struct chunk *next; size_t used; _Alignas(16) char bytes[4064]; };
static struct chunk *arena_top;
NOINLINE static void *arena_take(size_t size) {
  size = (size + 15) & ~(size_t)15;
  if (!arena_top || arena_top->used + size > sizeof arena_top->bytes) {
    struct chunk *chunk = malloc(sizeof *chunk);
    if (!chunk) fail("out of memory");
    chunk->next = arena_top, chunk->used = 0, arena_top = chunk;
  }
  void *piece = arena_top->bytes + arena_top->used;
  arena_top->used += size;
  return piece;
}
struct cell { int value; struct cell *next; char name[20]; };
static void arena(void) {
  struct cell *lists[16] = {NULL};
  char *string[8];
  size_t length[8], room[8];
  for (int i = 0; i < 8; i++) length[i] = 0, room[i] = 0, string[i] = NULL;
  for (int i = 0; i < 4000; i++) {
    uint64_t dice = next_random(&seed);
    int k = (int)(dice & 15), s = (int)(dice >> 4 & 7);
    struct cell *cell = arena_take(sizeof *cell - (dice >> 8 & 15));
    cell->value = (int)(dice >> 20 & 0xffff), cell->next = lists[k], lists[k] = cell;
    size_t add = dice >> 12 & 15;
    if (length[s] + add + 1 > room[s]) {
      room[s] = room[s] ? room[s] * 3 / 2 + 16 : 16;
      char *more = realloc(string[s], room[s]);
      if (!more) fail("out of memory");
      string[s] = more;
    }
    memcpy(string[s] + length[s], text + (dice >> 40 & 4095), add);
    length[s] += add;
    if (length[s] > 700) free(string[s]), string[s] = NULL, length[s] = room[s] = 0;
  }
  uint32_t sum = 0;
  for (int k = 0; k < 16; k++) for (const struct cell *c = lists[k]; c; c = c->next) sum = sum * 3 + (uint32_t)c->value;
  for (int i = 0; i < 8; i++) {
    for (size_t j = 0; j < length[i]; j++) sum = sum * 3 + (uint8_t)string[i][j];
    free(string[i]);
  }
  while (arena_top) {
    struct chunk *next = arena_top->next;
    free(arena_top);
    arena_top = next;
  }
  mix(sum);
}

// Graphs: one of random edges; its parts by union-find, by depth first, and distances by breadth first.
#define VERTICES 1000
#define EDGES 2200
static int edge_from[EDGES], edge_to[EDGES], edge_cost[EDGES], first_edge[VERTICES + 1], adjacent[2 * EDGES], cost_of[2 * EDGES];
static void make_graph(void) {
  static int fill[VERTICES];
  memset(first_edge, 0, sizeof first_edge);
  for (int i = 0; i < EDGES; i++) {
    edge_from[i] = random_below(VERTICES), edge_to[i] = random_below(VERTICES), edge_cost[i] = 1 + random_below(100);
    first_edge[edge_from[i] + 1]++, first_edge[edge_to[i] + 1]++;
  }
  for (int i = 0; i < VERTICES; i++) first_edge[i + 1] += first_edge[i], fill[i] = first_edge[i];
  for (int i = 0; i < EDGES; i++) {
    int a = edge_from[i], b = edge_to[i];
    adjacent[fill[a]] = b, cost_of[fill[a]++] = edge_cost[i];
    adjacent[fill[b]] = a, cost_of[fill[b]++] = edge_cost[i];
  }
}
static int uf_parent[VERTICES], dfs_low[VERTICES], dfs_number[VERTICES], dfs_count, dfs_cuts;
static int uf_find(int v) {
  while (uf_parent[v] != v) v = uf_parent[v] = uf_parent[uf_parent[v]];
  return v;
}
static void dfs(int v, int from) {
  int cut = 0, children = 0;
  dfs_number[v] = dfs_low[v] = ++dfs_count;
  for (int e = first_edge[v]; e < first_edge[v + 1]; e++) {
    int w = adjacent[e];
    if (w == from) continue;
    if (dfs_number[w]) {
      if (dfs_number[w] < dfs_low[v]) dfs_low[v] = dfs_number[w];
    } else {
      dfs(w, v), children++;
      if (dfs_low[w] < dfs_low[v]) dfs_low[v] = dfs_low[w];
      if (dfs_low[w] >= dfs_number[v]) cut = 1;
    }
  }
  dfs_cuts += from < 0 ? children > 1 : cut;
}
static void graph(void) {
  static int queue[VERTICES], away[VERTICES];
  make_graph();
  int parts = VERTICES;
  for (int i = 0; i < VERTICES; i++) uf_parent[i] = i;
  for (int i = 0; i < EDGES; i++) {
    int a = uf_find(edge_from[i]), b = uf_find(edge_to[i]);
    if (a != b) uf_parent[a] = b, parts--;
  }
  memset(dfs_number, 0, sizeof dfs_number);
  dfs_count = dfs_cuts = 0;
  for (int i = 0; i < VERTICES; i++) if (!dfs_number[i]) dfs(i, -1);
  for (int source = 0; source < 5; source++) {
    int head = 0, tail = 0, sum = 0;
    for (int i = 0; i < VERTICES; i++) away[i] = -1;
    queue[tail++] = source, away[source] = 0;
    while (head < tail) {
      int v = queue[head++];
      sum += away[v];
      for (int e = first_edge[v]; e < first_edge[v + 1]; e++)
        if (away[adjacent[e]] < 0) away[adjacent[e]] = away[v] + 1, queue[tail++] = adjacent[e];
    }
    mix((uint64_t)sum);
  }
  mix((uint64_t)parts), mix((uint64_t)dfs_cuts);
}

// Dijkstra's shortest paths with a binary heap.
struct reach { int cost, vertex; };
static struct reach reach_heap[2 * EDGES + 2];
static int reach_size;
static void reach_push(struct reach r) {
  int i = ++reach_size;
  for (; i > 1 && reach_heap[i / 2].cost > r.cost; i /= 2) reach_heap[i] = reach_heap[i / 2];
  reach_heap[i] = r;
}
static struct reach reach_pop(void) {
  struct reach top = reach_heap[1], last = reach_heap[reach_size--];
  int i = 1;
  for (int child; (child = 2 * i) <= reach_size; i = child) {
    if (child < reach_size && reach_heap[child + 1].cost < reach_heap[child].cost) child++;
    if (reach_heap[child].cost >= last.cost) break;
    reach_heap[i] = reach_heap[child];
  }
  reach_heap[i] = last;
  return top;
}
static void dijkstra(void) {
  static int made, best[VERTICES];
  if (!made) make_graph(), made = 1;
  for (int i = 0; i < VERTICES; i++) best[i] = 1 << 30;
  int source = random_below(VERTICES), sum = 0;
  reach_size = 0, best[source] = 0;
  reach_push((struct reach){0, source});
  while (reach_size) {
    struct reach r = reach_pop();
    if (r.cost > best[r.vertex]) continue;
    sum += r.cost;
    for (int e = first_edge[r.vertex]; e < first_edge[r.vertex + 1]; e++) {
      int cost = r.cost + cost_of[e], w = adjacent[e];
      if (cost < best[w]) best[w] = cost, reach_push((struct reach){cost, w});
    }
  }
  mix((uint64_t)sum);
}

// Exact cover by dancing links: ways to fill a 4x6 board that has a hole with bars of two and of three.
struct dance { struct dance *l, *r, *u, *d, *column; int size; };
static struct dance dances[1024], *dance_head;
static int dance_used, dance_found;
static void cover(struct dance *c) {
  c->r->l = c->l, c->l->r = c->r;
  for (struct dance *i = c->d; i != c; i = i->d)
    for (struct dance *j = i->r; j != i; j = j->r) j->d->u = j->u, j->u->d = j->d, j->column->size--;
}
static void uncover(struct dance *c) {
  for (struct dance *i = c->u; i != c; i = i->u)
    for (struct dance *j = i->l; j != i; j = j->l) j->column->size++, j->d->u = j, j->u->d = j;
  c->r->l = c, c->l->r = c;
}
static void dance_search(int depth) {
  if (dance_head->r == dance_head) {
    dance_found += depth;
    return;
  }
  struct dance *c = dance_head->r;
  for (struct dance *j = c->r; j != dance_head; j = j->r) if (j->size < c->size) c = j;
  if (!c->size) return;
  cover(c);
  for (struct dance *row = c->d; row != c; row = row->d) {
    for (struct dance *j = row->r; j != row; j = j->r) cover(j->column);
    dance_search(depth + 1);
    for (struct dance *j = row->l; j != row; j = j->l) uncover(j->column);
  }
  uncover(c);
}
static void dance_row(const int *columns, int n) {
  struct dance *first = NULL;
  for (int i = 0; i < n; i++) {
    struct dance *x = &dances[dance_used++], *c = &dances[columns[i] + 1];
    x->column = c, x->d = c, x->u = c->u, c->u->d = x, c->u = x, c->size++;
    if (!first) first = x->l = x->r = x;
    else x->r = first, x->l = first->l, first->l->r = x, first->l = x;
  }
}
static void dancing(void) {
  enum { W = 4, H = 6 };
  int hole = random_below(W * H), number[W * H], columns = 0;
  for (int i = 0; i < W * H; i++) number[i] = i == hole ? -1 : columns++;
  dance_head = &dances[0], dance_used = columns + 1, dance_found = 0;
  for (int i = 0; i <= columns; i++) {
    struct dance *c = &dances[i];
    c->u = c->d = c, c->size = 0, c->l = &dances[i ? i - 1 : columns], c->r = &dances[i < columns ? i + 1 : 0];
  }
  for (int y = 0; y < H; y++) {
    for (int x = 0; x < W; x++) {
      for (int length = 2; length <= 3; length++) {
        for (int down = 0; down < 2; down++) {
          int cells[3], n = 0;
          for (int k = 0; k < length; k++) {
            int cx = x + (down ? 0 : k), cy = y + (down ? k : 0);
            if (cx < W && cy < H && number[cy * W + cx] >= 0) cells[n++] = number[cy * W + cx];
          }
          if (n == length) dance_row(cells, n);
        }
      }
    }
  }
  dance_search(0);
  mix((uint64_t)dance_found);
}

static const struct { const char *name; void (*run)(void); } TASKS[] = {
  {"avl", avl}, {"skiplist", skiplist}, {"listsort", listsort}, {"quickselect", quickselect}, {"wordmap", wordmap}, {"arena", arena},
  {"graph", graph}, {"dijkstra", dijkstra}, {"dancing", dancing},
};

#include "tasks.h"
