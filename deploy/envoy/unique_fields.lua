-- Generated from unique_fields.lua.jinja and the protos by `make envoy`: change those.
-- Refuses a REST request that gives a field twice: in the path and in the query, in the body and in the query, or
-- twice in one of them. The transcoder would take one value in silence: docs/adr/0027-unique-fields.md.

-- The fields of each message, by both names that the transcoder understands.
local MESSAGES = {
  BatchListPersonalMoviesRequest = {
    requests = {name = "requests", message = "ListPersonalMoviesRequest", repeated = true},
  },
  GetMovieRequest = {
    movie_id = {name = "movie_id"},
    movieId = {name = "movie_id"},
  },
  GetStatusRequest = {
  },
  GetUserRequest = {
    user_id = {name = "user_id"},
    userId = {name = "user_id"},
    limit = {name = "limit"},
  },
  ListPersonalMoviesRequest = {
    user_id = {name = "user_id"},
    userId = {name = "user_id"},
    limit = {name = "limit"},
    filter = {name = "filter", message = "MovieFilter"},
    exclude_movie_ids = {name = "exclude_movie_ids", repeated = true},
    excludeMovieIds = {name = "exclude_movie_ids", repeated = true},
    include_seen = {name = "include_seen"},
    includeSeen = {name = "include_seen"},
    history = {name = "history", message = "RatedMovie", repeated = true},
    diversity = {name = "diversity"},
    explain_features = {name = "explain_features"},
    explainFeatures = {name = "explain_features"},
    fallback_policy = {name = "fallback_policy"},
    fallbackPolicy = {name = "fallback_policy"},
    because_of = {name = "because_of"},
    becauseOf = {name = "because_of"},
    bundle_id = {name = "bundle_id"},
    bundleId = {name = "bundle_id"},
  },
  ListPopularMoviesRequest = {
    limit = {name = "limit"},
    offset = {name = "offset"},
    filter = {name = "filter", message = "MovieFilter"},
    exclude_seen_by_user_id = {name = "exclude_seen_by_user_id"},
    excludeSeenByUserId = {name = "exclude_seen_by_user_id"},
    order = {name = "order"},
  },
  ListSimilarMoviesRequest = {
    movie_id = {name = "movie_id"},
    movieId = {name = "movie_id"},
    limit = {name = "limit"},
    filter = {name = "filter", message = "MovieFilter"},
    exclude_seen_by_user_id = {name = "exclude_seen_by_user_id"},
    excludeSeenByUserId = {name = "exclude_seen_by_user_id"},
    fallback_policy = {name = "fallback_policy"},
    fallbackPolicy = {name = "fallback_policy"},
  },
  ListTasteMoviesRequest = {
    limit = {name = "limit"},
  },
  MovieFilter = {
    genres = {name = "genres", repeated = true},
    exclude_genres = {name = "exclude_genres", repeated = true},
    excludeGenres = {name = "exclude_genres", repeated = true},
    min_year = {name = "min_year"},
    minYear = {name = "min_year"},
    max_year = {name = "max_year"},
    maxYear = {name = "max_year"},
  },
  RatedMovie = {
    movie_id = {name = "movie_id"},
    movieId = {name = "movie_id"},
    rating = {name = "rating"},
    rate_time = {name = "rate_time"},
    rateTime = {name = "rate_time"},
  },
  SearchMoviesRequest = {
    query = {name = "query"},
    limit = {name = "limit"},
    filter = {name = "filter", message = "MovieFilter"},
  },
  WhyMovieRequest = {
    movie_id = {name = "movie_id"},
    movieId = {name = "movie_id"},
    user_id = {name = "user_id"},
    userId = {name = "user_id"},
    limit = {name = "limit"},
    filter = {name = "filter", message = "MovieFilter"},
    exclude_movie_ids = {name = "exclude_movie_ids", repeated = true},
    excludeMovieIds = {name = "exclude_movie_ids", repeated = true},
    include_seen = {name = "include_seen"},
    includeSeen = {name = "include_seen"},
    explain_features = {name = "explain_features"},
    explainFeatures = {name = "explain_features"},
  },
}

-- The paths; those without variables come first, as they win.
local BINDINGS = {
  {
    verb = "GET", path = "^/api/movies/popular/?$",
    request = "ListPopularMoviesRequest", in_path = {},
  },
  {
    verb = "GET", path = "^/api/movies/personal/?$",
    request = "ListPersonalMoviesRequest", in_path = {},
  },
  {
    verb = "POST", path = "^/api/movies/personal/?$",
    request = "ListPersonalMoviesRequest", in_path = {},
  },
  {
    verb = "GET", path = "^/api/movies%:search/?$",
    request = "SearchMoviesRequest", in_path = {},
  },
  {
    verb = "GET", path = "^/api/movies/taste/?$",
    request = "ListTasteMoviesRequest", in_path = {},
  },
  {
    verb = "GET", path = "^/api/status/?$",
    request = "GetStatusRequest", in_path = {},
  },
  {
    verb = "POST", path = "^/api/movies/personal%:batch/?$",
    request = "BatchListPersonalMoviesRequest", in_path = {},
  },
  {
    verb = "GET", path = "^/api/movies/[^/]+/similar/?$",
    request = "ListSimilarMoviesRequest", in_path = {"movie_id",},
  },
  {
    verb = "GET", path = "^/api/movies/[^/]+/?$",
    request = "GetMovieRequest", in_path = {"movie_id",},
  },
  {
    verb = "GET", path = "^/api/movies/[^/]+/why/?$",
    request = "WhyMovieRequest", in_path = {"movie_id",},
  },
  {
    verb = "GET", path = "^/api/users/[^/]+/?$",
    request = "GetUserRequest", in_path = {"user_id",},
  },
}

local MAX_DEPTH = 32 -- of JSON; the deepest request has 5 levels

-- Ends the check. Without a field, the rule is one of the whole body.
local function refuse(rule, field)
  error({rule = rule, field = field})
end

-- Notes in which place a field stands; `places` has them by the field's path.
local function claim(places, field, place)
  local other = places[field]
  if other == place then
    refuse("must be given once, not twice in " .. place, field)
  elseif other then
    refuse("must be given once, not in " .. other .. " and in " .. place, field)
  end
  places[field] = place
end

-- The body. The transcoder also reads what is not JSON by RFC 8259, as keys without quotes; that would be a way around
-- this check, and is refused. Each function takes the index where it begins, and returns the one where it ended.

local value

local function malformed(at)
  refuse("the body must be JSON: it is not at byte " .. at)
end

local function after_space(text, at)
  return text:match("^[ \t\n\r]*()", at)
end

local function after_string(text, at)
  if text:sub(at, at) ~= '"' then
    malformed(at)
  end
  at = at + 1
  while true do
    local stop, mark = text:match('()([%z\1-\31"\\])', at)
    if mark == '"' then
      return stop + 1
    elseif mark ~= "\\" then
      malformed(stop or #text)
    end
    at = text:match('^["\\/bfnrt]()', stop + 1) or text:match("^u%x%x%x%x()", stop + 1) or malformed(stop)
  end
end

-- Of an object or an array, up to `close`; `read` reads one member or element.
local function after_items(text, at, close, read)
  at = after_space(text, at + 1)
  if text:sub(at, at) == close then
    return at + 1
  end
  while true do
    at = after_space(text, read(at))
    local mark = text:sub(at, at)
    if mark == close then
      return at + 1
    elseif mark ~= "," then
      malformed(at)
    end
    at = after_space(text, at + 1)
  end
end

local function after_object(text, at, places, message, path, depth)
  local fields = MESSAGES[message] or {}
  return after_items(text, at, "}", function(start)
    local stop = after_string(text, start)
    local key = text:sub(start + 1, stop - 2):gsub("\\u00(%x%x)", function(hex)
      return string.char(tonumber(hex, 16))
    end)
    local field = fields[key] or {} -- an unknown one is ignored by the transcoder
    local inner = field.name and (path == "" and field.name or path .. "." .. field.name)
    if inner then
      claim(places, inner, "the body")
    end
    stop = after_space(text, stop)
    if text:sub(stop, stop) ~= ":" then
      malformed(stop)
    end
    return value(text, after_space(text, stop + 1), places, field.message, inner, depth)
  end)
end

-- `message` is the type of the objects in it, and `path` the field's; neither for what is unknown.
function value(text, at, places, message, path, depth)
  local first = text:sub(at, at)
  if first == '"' then
    return after_string(text, at)
  elseif first ~= "{" and first ~= "[" then
    return text:match("^[%w+.-]+()", at) or malformed(at) -- the transcoder knows which words and numbers there are
  elseif depth == MAX_DEPTH then
    refuse("the body must not nest deeper than " .. MAX_DEPTH .. " levels")
  elseif first == "{" then
    return after_object(text, at, places, message, path, depth + 1)
  end
  local index = -1
  return after_items(text, at, "]", function(start)
    index = index + 1
    return value(text, start, places, message, path and path .. "[" .. index .. "]", depth + 1)
  end)
end

local function check_body(text, places, request)
  local at = after_space(text, value(text, after_space(text, 1), places, request, "", 0))
  if at <= #text then
    malformed(at)
  end
end

-- The query.

local function check_parameter(name, places, request)
  local fields, field, path = MESSAGES[request], nil, nil
  for part in name:gmatch("[^.]+") do
    field = fields and fields[part]
    if not field then
      return -- the transcoder refuses it
    end
    path = path and path .. "." .. field.name or field.name
    if field.repeated and field.message then -- only the last of the list would be left
      refuse("must stand in the JSON body of a POST: a query cannot hold a list of messages", path)
    end
    fields = MESSAGES[field.message]
  end
  if field and not field.repeated then
    claim(places, path, "the query")
  end
end

local function check_query(query, places, request)
  for name in query:gmatch("([^&=]+)=[^&]*") do -- the transcoder ignores a name without "="
    name = name:gsub("%%(%x%x)", function(hex)
      return string.char(tonumber(hex, 16))
    end)
    check_parameter(name, places, request)
  end
end

local function check(verb, url, body)
  local path, query = url:match("^([^?]*)%??(.*)$")
  for _, binding in ipairs(BINDINGS) do
    if binding.verb == verb and path:match(binding.path) then
      local places = {}
      for _, name in ipairs(binding.in_path) do
        places[name] = "the path"
      end
      if body:find("[^ \t\n\r]") then
        check_body(body, places, binding.request)
      end
      return check_query(query, places, binding.request)
    end
  end
end

function envoy_on_request(handle)
  local buffer = handle:body() -- waits for it; what was read of the handle before can be used no more
  local body = buffer and buffer:length() > 0 and buffer:getBytes(0, buffer:length()) or ""
  local headers = handle:headers()
  local passed, problem = pcall(check, headers:get(":method"), headers:get(":path"), body)
  if passed then
    return
  elseif type(problem) ~= "table" then -- a defect of this script: nothing passes without the check
    handle:logErr(tostring(problem))
    handle:respond({[":status"] = "500"})
  elseif problem.field then -- the configuration's local_reply_config makes a BadRequest of it
    local metadata = handle:streamInfo():dynamicMetadata()
    metadata:set("movierec.violation", "field", problem.field)
    metadata:set("movierec.violation", "rule", problem.rule)
    handle:respond({[":status"] = "400"}, problem.field .. ": " .. problem.rule)
  else
    handle:respond({[":status"] = "400"}, problem.rule)
  end
end
