// C++ with real Wasm exceptions: a calculator (scanner, recursive-descent parser to a tree of virtual nodes, evaluator) that reports
// every fault by throwing. Destructors run calls that loop while an exception is in flight; handlers rethrow, translate and nest
// exceptions; a constructor throws half-way; exceptions are kept and thrown again later. At the end every object made has been
// destroyed. usage: calculator [ROUNDS]
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

static int64_t made, destroyed;
static uint64_t trail = 0xcbf29ce484222325u;

// Work that takes a while: a pause can fall into a destructor that runs while an exception is held.
__attribute__((noinline)) static void note(uint64_t what, int turns) {
  for (int i = 0; i < turns; i++) trail = (trail ^ (what + i)) * 0x100000001b3u;
}

// Counts itself, and works on destruction.
struct Guard {
  int id;
  explicit Guard(int id) : id(id) { made++; }
  Guard(const Guard &other) : id(other.id) { made++; }
  ~Guard() {
    destroyed++;
    note(id, 5);
  }
};

struct Fault : std::runtime_error {
  Guard guard;
  int at;
  Fault(const std::string &what, int at) : std::runtime_error(what), guard(1000 + at), at(at) {}
};
struct SyntaxFault : Fault { using Fault::Fault; };
struct MathFault : Fault {
  double operand;
  MathFault(const std::string &what, int at, double operand) : Fault(what, at), operand(operand) {}
};

using Variables = std::map<std::string, double>;

struct Node {
  Guard guard;
  explicit Node(int at) : guard(at) {}
  virtual ~Node() {}
  virtual double value(const Variables &variables, int depth) const = 0;
};
using NodePointer = std::unique_ptr<Node>;

struct Number : Node {
  double number;
  Number(int at, double number) : Node(at), number(number) {
    // Thrown by a constructor: the Node part is there already and must go.
    if (number > 99990) throw SyntaxFault("number too large", at);
  }
  double value(const Variables &, int) const override { return number; }
};

struct Variable : Node {
  std::string name;
  Variable(int at, std::string name) : Node(at), name(std::move(name)) {}
  double value(const Variables &variables, int) const override {
    try {
      return variables.at(name);
    } catch (const std::out_of_range &) {
      throw Fault("no variable " + name, guard.id);
    }
  }
};

struct Operation : Node {
  char symbol;
  NodePointer left, right;
  Operation(int at, char symbol, NodePointer left, NodePointer right)
      : Node(at), symbol(symbol), left(std::move(left)), right(std::move(right)) {}
  double value(const Variables &variables, int depth) const override {
    Guard here(depth);
    double a = left->value(variables, depth + 1), b = right->value(variables, depth + 1);
    switch (symbol) {
      case '+': return a + b;
      case '-': return a - b;
      case '*': return a * b;
      default:
        if (b == 0) throw MathFault("division by zero", guard.id, a);
        return a / b;
    }
  }
};

// try(a, b): b when a has a mathematical fault; other faults go on, some of them with a note of where they passed.
struct Attempt : Node {
  NodePointer first, second;
  Attempt(int at, NodePointer first, NodePointer second) : Node(at), first(std::move(first)), second(std::move(second)) {}
  double value(const Variables &variables, int depth) const override {
    Guard here(depth);
    try {
      return first->value(variables, depth + 1);
    } catch (const MathFault &fault) {
      note(fault.at, 7);
      return second->value(variables, depth + 1) + fault.operand;
    } catch (Fault &) {
      if (depth % 2) throw;
      std::throw_with_nested(Fault("in try", guard.id));
    }
  }
};

class Parser {
  const std::string &text;
  size_t at = 0;

  char peek() {
    while (at < text.size() && text[at] == ' ') at++;
    return at < text.size() ? text[at] : 0;
  }
  bool take(char c) {
    if (peek() != c) return false;
    at++;
    return true;
  }
  void expect(char c) {
    if (!take(c)) throw SyntaxFault(std::string("expected ") + c, static_cast<int>(at));
  }
  NodePointer primary() {
    Guard here(static_cast<int>(at));
    int start = static_cast<int>(at);
    char c = peek();
    if (c >= '0' && c <= '9') {
      double number = 0;
      while (peek() >= '0' && peek() <= '9') number = number * 10 + (text[at++] - '0');
      return std::make_unique<Number>(start, number);
    }
    if (c >= 'a' && c <= 'z') {
      std::string name;
      while (peek() >= 'a' && peek() <= 'z') name += text[at++];
      if (name != "try") return std::make_unique<Variable>(start, name);
      expect('(');
      NodePointer first = sum();
      expect(',');
      NodePointer second = sum();
      expect(')');
      return std::make_unique<Attempt>(start, std::move(first), std::move(second));
    }
    expect('(');
    NodePointer inside = sum();
    expect(')');
    return inside;
  }
  NodePointer product() {
    NodePointer left = primary();
    while (peek() == '*' || peek() == '/') {
      int start = static_cast<int>(at);
      char symbol = text[at++];
      NodePointer right = primary();
      left = std::make_unique<Operation>(start, symbol, std::move(left), std::move(right));
    }
    return left;
  }
  NodePointer sum() {
    NodePointer left = product();
    while (peek() == '+' || peek() == '-') {
      int start = static_cast<int>(at);
      char symbol = text[at++];
      NodePointer right = product();
      left = std::make_unique<Operation>(start, symbol, std::move(left), std::move(right));
    }
    return left;
  }

 public:
  explicit Parser(const std::string &text) : text(text) {}
  NodePointer parse() {
    NodePointer all = sum();
    if (peek()) throw SyntaxFault(std::string("unexpected ") + peek(), static_cast<int>(at));
    return all;
  }
};

// Expressions from a generator, with faults of every kind among them.
class Writer {
  uint64_t seed;
  int random(int n) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return static_cast<int>((seed >> 33) % n);
  }

 public:
  explicit Writer(uint64_t seed) : seed(seed) {}
  std::string expression(int depth) {
    if (depth == 0) {
      int kind = random(40);
      if (kind == 0) return "nobody";
      if (kind == 1) return "99999";
      if (kind == 2) return "(1 - 1)";
      if (kind < 16) return std::string(1, "xyz"[random(3)]);
      return std::to_string(random(100));
    }
    // One at a time: the order of calls within an expression is the compiler's choice.
    bool attempt = random(6) == 0;
    char symbol = "+-*/"[random(4)];
    std::string left = expression(depth - 1), right = expression(depth - 1);
    if (attempt) return "try(" + left + ", " + right + ")";
    std::string text = "(" + left + " " + symbol + " " + right + ")";
    if (random(150) == 0) text.pop_back();
    return text;
  }
};

// The messages of an exception and of those nested in it. (Not by std::rethrow_if_nested: that throws inside libc++, which zig
// builds without exceptions, so a reference would be left behind.)
static std::string chain(const std::exception &problem) {
  std::string text = problem.what();
  auto nested = dynamic_cast<const std::nested_exception *>(&problem);
  if (!nested || !nested->nested_ptr()) return text;
  try {
    std::rethrow_exception(nested->nested_ptr());
  } catch (const std::exception &inner) {
    text += " < " + chain(inner);
  }
  return text;
}

static double evaluate(const std::string &text, const Variables &variables) {
  NodePointer tree = Parser(text).parse();
  return tree->value(variables, 0);
}

int main(int argc, char **argv) {
  long rounds = argc > 1 ? std::atol(argv[1]) : 200;
  std::map<std::string, int> outcomes;
  std::vector<std::exception_ptr> kept;
  Variables variables{{"x", 3}, {"y", -7.5}, {"z", 0}};
  double total = 0;
  for (long round = 0; round < rounds; round++) {
    std::string text = Writer(round).expression(2 + round % 5);
    variables["z"] = static_cast<double>(round % 3);
    try {
      double value = evaluate(text, variables);
      total = total * 0.5 + (value < 1e6 && value > -1e6 ? value : 1);
      outcomes["value"]++;
    } catch (const SyntaxFault &fault) {
      outcomes[std::string("syntax: ") + fault.what()]++;
    } catch (const std::exception &problem) {
      outcomes[chain(problem)]++;
      if (kept.size() < 10) kept.push_back(std::current_exception());
    }
    note(text.size(), 3);
  }
  for (const auto &again : kept) {
    try {
      std::rethrow_exception(again);
    } catch (const Fault &fault) {
      note(fault.at, 11);
    }
  }
  while (!kept.empty()) kept.pop_back();  // clear() takes them in an order of its library
  for (const auto &[what, times] : outcomes) std::printf("%6d %s\n", times, what.c_str());
  std::printf("total %.9g, trail %016llx\n", total, static_cast<unsigned long long>(trail));
  std::printf("%lld made, %s\n", static_cast<long long>(made), made == destroyed ? "all destroyed" : "some left");
  return made == destroyed ? 0 : 1;
}
