// A large heap: N pairs in an open-addressed hash table that doubles, in a B-tree with splits, and as a linked list in
// shuffled order that is chased; then deletions and checks against each other. About 150 bytes of memory a pair: 2,000,000
// pairs need some 300 MB. usage: heap [PAIRS] [LOOKUPS]
#include "guest.h"

typedef struct { uint64_t key, value; } Pair;
typedef struct { Pair *slots; uint64_t mask, used; } Table;
typedef struct Item { struct Item *next; uint64_t key, order; char text[24]; } Item;

#define ORDER 32
typedef struct Node { int count, leaf; Pair pairs[ORDER - 1]; struct Node *children[ORDER]; } Node;

static void *take(size_t bytes) {
  void *memory = calloc(1, bytes);
  if (!memory) fail("out of memory");
  return memory;
}

static Pair *table_slot(Table *t, uint64_t key) {
  uint64_t at = key * 0x9e3779b97f4a7c15u >> 20;
  for (;; at++) {
    Pair *slot = &t->slots[at & t->mask];
    if (slot->key == key || slot->key == 0) return slot;
  }
}

static void table_double(Table *t) {
  Table bigger = {take(sizeof(Pair) * (t->mask + 1) * 2), t->mask * 2 + 1, t->used};
  for (uint64_t i = 0; i <= t->mask; i++)
    if (t->slots[i].key) *table_slot(&bigger, t->slots[i].key) = t->slots[i];
  free(t->slots);
  *t = bigger;
}

static void table_put(Table *t, uint64_t key, uint64_t value) {
  if (t->used * 10 > t->mask * 7) table_double(t);
  Pair *slot = table_slot(t, key);
  t->used += slot->key == 0;
  *slot = (Pair){key, value};
}

static int position(const Node *node, uint64_t key) {
  int low = 0, high = node->count;
  while (low < high) {
    int middle = (low + high) / 2;
    if (node->pairs[middle].key < key) low = middle + 1;
    else high = middle;
  }
  return low;
}

static void split_child(Node *parent, int at) {
  Node *left = parent->children[at], *right = take(sizeof *right);
  int middle = (ORDER - 1) / 2;
  right->leaf = left->leaf;
  right->count = left->count - middle - 1;
  memcpy(right->pairs, left->pairs + middle + 1, sizeof(Pair) * right->count);
  if (!left->leaf) memcpy(right->children, left->children + middle + 1, sizeof(Node *) * (right->count + 1));
  left->count = middle;
  memmove(parent->pairs + at + 1, parent->pairs + at, sizeof(Pair) * (parent->count - at));
  memmove(parent->children + at + 2, parent->children + at + 1, sizeof(Node *) * (parent->count - at));
  parent->pairs[at] = left->pairs[middle];
  parent->children[at + 1] = right;
  parent->count++;
}

static void tree_put_below(Node *node, Pair pair) {
  int at = position(node, pair.key);
  if (at < node->count && node->pairs[at].key == pair.key) { node->pairs[at] = pair; return; }
  if (node->leaf) {
    memmove(node->pairs + at + 1, node->pairs + at, sizeof(Pair) * (node->count - at));
    node->pairs[at] = pair;
    node->count++;
    return;
  }
  if (node->children[at]->count == ORDER - 1) {
    split_child(node, at);
    if (node->pairs[at].key == pair.key) { node->pairs[at] = pair; return; }
    at += node->pairs[at].key < pair.key;
  }
  tree_put_below(node->children[at], pair);
}

static Node *tree_put(Node *root, Pair pair) {
  if (root->count == ORDER - 1) {
    Node *above = take(sizeof *above);
    above->children[0] = root;
    split_child(above, 0);
    root = above;
  }
  tree_put_below(root, pair);
  return root;
}

static Pair *tree_get(Node *node, uint64_t key) {
  for (;;) {
    int at = position(node, key);
    if (at < node->count && node->pairs[at].key == key) return &node->pairs[at];
    if (node->leaf) return 0;
    node = node->children[at];
  }
}

typedef struct { uint64_t last, count, hash; Table *table; } Walk;

// In-order walk by recursion: keys ascend, and the table holds the same value for each.
static void tree_walk(const Node *node, Walk *walk) {
  for (int i = 0; i <= node->count; i++) {
    if (!node->leaf) tree_walk(node->children[i], walk);
    if (i == node->count) break;
    const Pair *pair = &node->pairs[i];
    if (pair->key <= walk->last) fail("the tree is not in order");
    if (table_slot(walk->table, pair->key)->value != pair->value) fail("the tree and the table differ");
    walk->last = pair->key;
    walk->count++;
    walk->hash = fnv(walk->hash, pair, sizeof *pair);
  }
}

// Every item is a block of its own, freed and taken anew in part, so that the allocator's lists are used.
static Item *make_list(uint64_t count, uint64_t *seed) {
  Item **items = take(sizeof *items * count), *head = 0;
  for (uint64_t i = 0; i < count; i++) {
    items[i] = take(sizeof(Item));
    if (i % 3 == 2) { free(items[i - 1]); items[i - 1] = take(sizeof(Item)); }
  }
  for (uint64_t i = count - 1; i > 0; i--) {
    uint64_t j = next_random(seed) % (i + 1);
    Item *swap = items[i];
    items[i] = items[j];
    items[j] = swap;
  }
  for (uint64_t i = 0; i < count; i++) {
    items[i]->next = head;
    items[i]->order = i;
    items[i]->key = next_random(seed) | 1;
    snprintf(items[i]->text, sizeof items[i]->text, "item-%llu", (unsigned long long)i);
    head = items[i];
  }
  free(items);
  return head;
}

int main(int argc, char **argv) {
  uint64_t count = arg_number(argc, argv, 1, 50000), lookups = arg_number(argc, argv, 2, count * 2), seed = 11;
  if (count == 0) fail("pairs must be at least 1");
  Table table = {take(sizeof(Pair) * 16), 15, 0};
  Node *root = take(sizeof *root);
  root->leaf = 1;
  Item *list = make_list(count, &seed);
  for (Item *item = list; item; item = item->next) {
    uint64_t value = fnv(item->order, item->text, strlen(item->text));
    table_put(&table, item->key, value);
    root = tree_put(root, (Pair){item->key, value});
  }
  Walk walk = {0, 0, FNV_START, &table};
  tree_walk(root, &walk);
  if (walk.count != table.used) fail("the counts differ");
  uint64_t hits = 0, mix = 0;
  Item *at = list;
  for (uint64_t i = 0; i < lookups; i++) {
    uint64_t key = i & 1 ? at->key : next_random(&seed) | 1;
    Pair *found = tree_get(root, key);
    if ((found != 0) != (table_slot(&table, key)->key == key)) fail("a lookup differs");
    if (found) { hits++; mix = (mix ^ found->value) * 31; found->value = mix; table_put(&table, key, mix); }
    at = at->next ? at->next : list;
  }
  Walk again = {0, 0, FNV_START, &table};
  tree_walk(root, &again);
  printf("%llu pairs, %llu slots, hash %016llx\n", (unsigned long long)walk.count, (unsigned long long)table.mask + 1,
         (unsigned long long)walk.hash);
  printf("%llu lookups, %llu hits, mix %016llx, hash %016llx\n", (unsigned long long)lookups, (unsigned long long)hits,
         (unsigned long long)mix, (unsigned long long)again.hash);
  return 0;
}
