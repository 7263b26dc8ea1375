// A client in JavaScript, of the proto files alone:
//   npm install @grpc/grpc-js @grpc/proto-loader
//   node client.mjs <root of this repository> [localhost:8080]
// The folders google/api and google/rpc are laid into protos/vendor by `make protos/vendor`.
import grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";

const [root, target = "localhost:8080"] = process.argv.slice(2);
const definition = loadSync("movierec/gateway/v1/movie_service.proto", {
  includeDirs: [`${root}/protos`, `${root}/protos/vendor`],
  keepCase: true, // movie_id, not movieId
  longs: String, // user ids are int64
  enums: String,
  defaults: true,
});
const { MovieService } = grpc.loadPackageDefinition(definition).movierec.gateway.v1;
const client = new MovieService(target, grpc.credentials.createInsecure());

function call(method, request) {
  const deadline = new Date(Date.now() + 3000);
  return new Promise((resolve, reject) => {
    client[method](request, { deadline }, (error, answer) => (error ? reject(error) : resolve(answer)));
  });
}

const { movies, model } = await call("ListPersonalMovies", { user_id: "1", limit: 3 });
console.log(model, movies.map(({ rank, movie }) => `${rank}. ${movie.title} (${movie.year})`));
const { responses } = await call("BatchListPersonalMovies", { requests: [{ user_id: "1" }, { user_id: "2" }] });
console.log(responses.map((one) => one.movies.length));
const error = await call("GetMovie", { movie_id: 2147483647 }).catch((e) => e);
console.log(grpc.status[error.code], error.details, error.metadata.get("grpc-status-details-bin").length);
client.close();
