-- Lua at work: closures and metatables, coroutines, string matching and building, tables as arrays and maps, errors
-- caught at several depths, a file written and read back. usage: task.lua [SCALE] [FILE]
-- SCALE 1 takes well under two seconds, the default of 60 a minute or so. Output depends on SCALE alone.
local scale = tonumber(arg[1] or "60")
local path = arg[2]

-- A generator of our own: math.random differs between versions, pairs() order between hash seeds.
local state = 42
local function random(n)
  state = (state * 1103515245 + 12345) % 2147483648
  return (state >> 8) % n + 1
end

-- Objects: 2x2 matrices of integers modulo a prime, by metatables.
local Matrix = {}
Matrix.__index = Matrix
local MODULUS = 1000003
local function matrix(a, b, c, d)
  return setmetatable({ a % MODULUS, b % MODULUS, c % MODULUS, d % MODULUS }, Matrix)
end
function Matrix.__mul(x, y)
  return matrix(x[1] * y[1] + x[2] * y[3], x[1] * y[2] + x[2] * y[4],
    x[3] * y[1] + x[4] * y[3], x[3] * y[2] + x[4] * y[4])
end
function Matrix.__tostring(m) return string.format("[%d %d; %d %d]", m[1], m[2], m[3], m[4]) end
function Matrix:power(n)
  if n == 0 then return matrix(1, 0, 0, 1) end
  local half = self:power(n // 2)
  return n % 2 == 0 and half * half or half * half * self
end

-- Coroutines: permutations, produced one at a time by a recursive generator.
local function permutations(items)
  local function visit(n)
    if n == 0 then coroutine.yield(items) return end
    for i = 1, n do
      items[i], items[n] = items[n], items[i]
      visit(n - 1)
      items[i], items[n] = items[n], items[i]
    end
  end
  return coroutine.wrap(function() visit(#items) end)
end

local function count_permutations(n)
  local items, count, sum = {}, 0, 0
  for i = 1, n do items[i] = i end
  for p in permutations(items) do
    count = count + 1
    local value = 0
    for i = 1, n do value = value * 10 + p[i] end
    sum = (sum * 31 + value) % 1000000007
  end
  return count, sum
end

-- Strings: a text of made-up words, counted with patterns, and rewritten.
local function make_text(words)
  local out = {}
  for i = 1, words do
    local word = {}
    for j = 1, random(7) do word[j] = string.char(96 + random(12)) end
    out[i] = table.concat(word)
  end
  return table.concat(out, " ")
end

local function word_statistics(text)
  local counts, names = {}, {}
  for word in text:gmatch("%a+") do
    if not counts[word] then names[#names + 1] = word end
    counts[word] = (counts[word] or 0) + 1
  end
  table.sort(names, function(x, y)
    if counts[x] ~= counts[y] then return counts[x] > counts[y] end
    return x < y
  end)
  local top = {}
  for i = 1, math.min(5, #names) do top[i] = names[i] .. "=" .. counts[names[i]] end
  local swapped = text:gsub("(%a)(%a)(%a)", "%3%1%2"):upper()
  local vowels = select(2, swapped:gsub("[AEIOU]", ""))
  return #names, table.concat(top, " "), vowels
end

-- Errors: thrown at random depths through frames with to-be-closed variables; some handlers throw on.
local closed = 0
local closer = setmetatable({}, { __close = function() closed = closed + 1 end })
local function fail_below(depth, what)
  local guard <close> = closer
  if depth == 0 then error({ code = what }) end
  if depth % 7 == 0 then
    local ok, problem = pcall(fail_below, depth - 1, what)
    if not ok then error({ code = problem.code + depth }, 0) end
  end
  return fail_below(depth - 1, what) .. ""
end

local function errors(times)
  local sum = 0
  for i = 1, times do
    local ok, problem = pcall(fail_below, random(20), i)
    assert(not ok)
    sum = sum + problem.code
  end
  return sum
end

-- N queens with closures over arrays.
local function queens(n)
  local columns, up, down, found = {}, {}, {}, 0
  local function place(row)
    if row > n then found = found + 1 return end
    for c = 1, n do
      if not (columns[c] or up[row + c] or down[row - c]) then
        columns[c], up[row + c], down[row - c] = true, true, true
        place(row + 1)
        columns[c], up[row + c], down[row - c] = nil, nil, nil
      end
    end
  end
  place(1)
  return found
end

local out = path and assert(io.open(path, "w"))
local function report(...)
  local line = string.format(...)
  print(line)
  if out then out:write(line, "\n") out:flush() end
end

report("%s, scale %d", _VERSION, scale)
for round = 1, scale do
  local fibonacci = matrix(1, 1, 1, 0)
  for i = 1, 2000 do fibonacci = matrix(1, 1, 1, i):power(round * 1000 + i) * fibonacci end
  local count, sum = count_permutations(8)
  local different, top, vowels = word_statistics(make_text(20000))
  local failures = errors(2000)
  report("%d: %s, %d permutations %d, %d words (%s) %d vowels, errors %d closed %d, queens %d",
    round, tostring(fibonacci), count, sum, different, top, vowels, failures, closed, queens(7))
end
if out then
  out:close()
  local lines = 0
  for line in io.lines(path) do lines = lines + 1 end
  print(lines .. " lines in the file")
end
print("done")
