-- Lua at work for a tenth of a second or so: numbers, tables, strings, closures, metatables, calls.
-- usage: task.lua [SCALE]
local scale = tonumber(arg[1] or "1")

local function fib(n) if n < 2 then return n end return fib(n - 1) + fib(n - 2) end

local function sieve(limit)
  local composite, count = {}, 0
  for n = 2, limit do
    if not composite[n] then
      count = count + 1
      for k = n * n, limit, n do composite[k] = true end
    end
  end
  return count
end

local Point = {}
Point.__index = Point
function Point.new(x, y) return setmetatable({ x = x, y = y }, Point) end
function Point.__add(p, q) return Point.new(p.x + q.x, p.y + q.y) end

local function strings(count)
  local parts, seen = {}, 0
  for i = 1, count do parts[i] = string.format("%d:%x", i, i * 7919) end
  for number in table.concat(parts, ","):gmatch("(%d+):") do seen = seen + tonumber(number) end
  return seen
end

local sum = Point.new(0, 0)
for i = 1, 20000 * scale do sum = sum + Point.new(i, 1 / i) end
local list = {}
for i = 1, 5000 * scale do list[i] = i * 7919 % 10007 end
table.sort(list, function(a, b) return a > b end)
print(fib(20), sieve(20000 * scale), strings(3000 * scale), sum.x, string.format("%.9f", sum.y), list[1], list[#list])
